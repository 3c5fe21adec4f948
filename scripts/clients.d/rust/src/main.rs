//! The crates `memcache` and `async-memcached` as stock clients: `sidestep-rust-clients NAME ADDRESS PORT`.
//!
//! Tells of each operation in a line of JSON; `../run.py` reads it and has the other side. Read first: `session.rs`.

mod session;
mod with_async_memcached;
mod with_memcache;

use session::Outcome;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, address, port] = arguments.as_slice() else {
        return Err("usage: sidestep-rust-clients memcache-binary|memcache-text|async-memcached ADDRESS PORT".into());
    };
    // An IPv6 address stands in brackets (RFC 3986).
    let server = if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
    match name.as_str() {
        "memcache-binary" => session::run(&mut with_memcache::Memcache::connect(&server, "binary")?),
        "memcache-text" => session::run(&mut with_memcache::Memcache::connect(&server, "ascii")?),
        "async-memcached" => session::run(&mut with_async_memcached::AsyncMemcached::connect(&server)?),
        other => return Err(format!("there is no client '{other}'").into()),
    }
    Ok(())
}
