//! What every client does, told line by line.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io::{BufRead, Write};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

/// Close to the largest value that memcached takes by default, 1,048,576 bytes with key and header.
const LARGE_BYTES: usize = 1_000_000;
const MANY: usize = 300;
/// Attempts that a client may fail before it has noticed that its connection was closed.
const ATTEMPTS: usize = 10;

/// What an operation gives, or why it could not.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// The client has no such operation; the text says what there is instead.
#[derive(Debug)]
pub struct NotOffered(pub &'static str);

impl fmt::Display for NotOffered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl Error for NotOffered {}

/// What the session asks of a client. Absence is `None` or `false`, not an error.
pub trait Client {
    /// Why a client does not go on after its connection was closed, if so.
    const NO_RECONNECT: Option<&'static str> = None;

    /// What incr of a missing key gives: some clients always send an initial value.
    fn incr_of_nothing(&self) -> Option<u64> {
        None
    }

    fn set(&mut self, key: &str, value: &[u8], ttl: u32) -> Outcome<()>;
    fn get(&mut self, key: &str) -> Outcome<Option<Vec<u8>>>;
    fn get_many(&mut self, keys: &[&str]) -> Outcome<HashMap<String, Vec<u8>>>;
    fn gets(&mut self, key: &str) -> Outcome<(Vec<u8>, u64)>;
    fn cas(&mut self, key: &str, value: &[u8], unique: u64) -> Outcome<bool>;
    fn incr(&mut self, key: &str, number: u64) -> Outcome<Option<u64>>;
    fn decr(&mut self, key: &str, number: u64) -> Outcome<Option<u64>>;
    fn touch(&mut self, key: &str, ttl: u32) -> Outcome<bool>;
    fn delete(&mut self, key: &str) -> Outcome<bool>;
    fn set_noreply(&mut self, key: &str, value: &[u8]) -> Outcome<()>;
    fn delete_noreply(&mut self, key: &str) -> Outcome<()>;

    /// Called after the server's end: a client that has no reconnect is made anew.
    fn renew(&mut self) -> Outcome<()> {
        Ok(())
    }
}

fn tell(line: &Value) {
    println!("{line}");
    std::io::stdout().flush().expect("the driver reads");
}

/// Asks the driver, which has the other side of the server.
fn ask(question: Value) -> Outcome<Value> {
    tell(&question);
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn held(key: &str) -> Outcome<Option<Vec<u8>>> {
    let answer = ask(json!({"ask": "read", "key": key}))?;
    let Some(hex) = answer["value"].as_str() else { return Ok(None) };
    let pairs = hex.as_bytes().chunks(2);
    let bytes: Result<_, _> = pairs.map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16)).collect();
    Ok(Some(bytes?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ttl_is(key: &str, range: std::ops::RangeInclusive<i64>) -> Outcome<()> {
    let ttl = ask(json!({"ask": "ttl", "key": key}))?["ttl"].as_i64();
    match ttl {
        Some(seconds) if range.contains(&seconds) => Ok(()),
        other => Err(format!("the time to live is {other:?}, expected {range:?}").into()),
    }
}

fn same<T: PartialEq + fmt::Debug>(what: &str, found: T, expected: T) -> Outcome<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {:.200}, expected {:.200}", format!("{found:?}"), format!("{expected:?}")).into())
}

fn same_bytes(what: &str, found: Option<Vec<u8>>, expected: &[u8]) -> Outcome<()> {
    let found = found.ok_or_else(|| format!("{what}: nothing, expected {} bytes", expected.len()))?;
    if found == expected {
        return Ok(());
    }
    let at = found.iter().zip(expected).position(|(one, other)| one != other);
    Err(format!("{what}: {} bytes, expected {}; they differ at {at:?}", found.len(), expected.len()).into())
}

fn set<C: Client>(client: &mut C) -> Outcome<String> {
    client.set("set", b"first", 0)?;
    client.set("set", b"second", 0)?;
    same_bytes("what the server holds", held("set")?, b"second")?;
    client.set("ends", b"value", 5000)?;
    ttl_is("ends", 4001..=5000)?;
    Ok(String::new())
}

fn get<C: Client>(client: &mut C) -> Outcome<String> {
    client.set("get", b"a\r\nEND\r\n\0b\xff", 0)?;
    same_bytes("get", client.get("get")?, b"a\r\nEND\r\n\0b\xff")?;
    same("get of nothing", client.get("nothing")?, None)?;
    client.set("empty", b"", 0)?;
    same_bytes("get of an empty value", client.get("empty")?, b"")?;
    let longest = "k".repeat(250);
    client.set(&longest, b"long key", 0)?;
    same_bytes("get of a key of 250 bytes", client.get(&longest)?, b"long key")?;
    Ok(String::new())
}

fn multi_get<C: Client>(client: &mut C) -> Outcome<String> {
    let mut hits = HashMap::new();
    let mut keys = Vec::new();
    for number in 0..MANY {
        let (key, value) = (format!("many-{number}"), number.to_string().repeat(number % 40).into_bytes());
        client.set(&key, &value, 0)?;
        keys.extend([key.clone(), format!("missing-{number}")]);
        hits.insert(key, value);
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    same("get of many", client.get_many(&keys)?, hits)?;
    let missing: Vec<&str> = keys.into_iter().skip(1).step_by(2).collect();
    same("get of many missing", client.get_many(&missing)?, HashMap::new())?;
    Ok(String::new())
}

fn cas<C: Client>(client: &mut C) -> Outcome<String> {
    client.set("swap", b"first", 0)?;
    let (value, unique) = client.gets("swap")?;
    same("gets", value, b"first".to_vec())?;
    same("cas with the unique", client.cas("swap", b"swapped", unique)?, true)?;
    same("cas with the old unique", client.cas("swap", b"late", unique)?, false)?;
    same_bytes("get", client.get("swap")?, b"swapped")?;
    Ok(String::new())
}

fn incr<C: Client>(client: &mut C) -> Outcome<String> {
    client.set("incr", b"10", 0)?;
    same("incr", client.incr("incr", 5)?, Some(15))?;
    same("decr", client.decr("incr", 3)?, Some(12))?;
    same("decr below zero", client.decr("incr", 100)?, Some(0))?;
    let expected = client.incr_of_nothing();
    same("incr of nothing", client.incr("incr-missing", 5)?, expected)?;
    client.set("incr", b"word", 0)?;
    if let Ok(found) = client.incr("incr", 1) {
        return Err(format!("incr of a word gave {found:?}").into());
    }
    same_bytes("get", client.get("incr")?, b"word")?;
    Ok(String::new())
}

fn touch<C: Client>(client: &mut C) -> Outcome<String> {
    client.set("touch", b"value", 1000)?;
    same("touch", client.touch("touch", 100_000)?, true)?;
    ttl_is("touch", 90_000..=100_000)?;
    same_bytes("get", client.get("touch")?, b"value")?;
    same("touch of nothing", client.touch("nothing", 100)?, false)?;
    Ok(String::new())
}

fn delete<C: Client>(client: &mut C) -> Outcome<String> {
    client.set("delete", b"value", 0)?;
    same("delete", client.delete("delete")?, true)?;
    same("get", client.get("delete")?, None)?;
    same("delete of nothing", client.delete("delete")?, false)?;
    Ok(String::new())
}

fn large<C: Client>(client: &mut C) -> Outcome<String> {
    let seed: u64 = rand::rng().random();
    both_ways(client, seed).map_err(|error| format!("{error}; seed {seed}"))?;
    Ok(String::new())
}

fn both_ways<C: Client>(client: &mut C, seed: u64) -> Outcome<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut value = vec![0; LARGE_BYTES];
    let mut kept = HashMap::new();
    for key in ["large-1", "large-2"] {
        random.fill_bytes(&mut value);
        client.set(key, &value, 0)?;
        same_bytes("what the server holds", held(key)?, &value)?;
        same_bytes("get", client.get(key)?, &value)?;
        random.fill_bytes(&mut value);
        ask(json!({"ask": "write", "key": key, "value": hex(&value)}))?;
        same_bytes("get of another", client.get(key)?, &value)?;
        kept.insert(key.to_owned(), value.clone());
    }
    let found = client.get_many(&["large-1", "nothing", "large-2"])?;
    same("keys of a get of both", found.len(), kept.len())?;
    for (key, value) in &kept {
        same_bytes("get of both", found.get(key).cloned(), value)?;
    }
    Ok(())
}

fn noreply<C: Client>(client: &mut C) -> Outcome<String> {
    for number in 0..100 {
        client.set_noreply(&format!("noreply-{number}"), format!("value {number}").as_bytes())?;
    }
    let large = b"\r\n".repeat(LARGE_BYTES / 2);
    client.set_noreply("noreply-large", &large)?;
    same_bytes("get of a large one", client.get("noreply-large")?, &large)?;
    same_bytes("get of the last", client.get("noreply-99")?, b"value 99")?;
    same_bytes("get of the first", client.get("noreply-0")?, b"value 0")?;
    client.delete_noreply("noreply-0")?;
    same("get of what was deleted", client.get("noreply-0")?, None)?;
    same_bytes("get of another", client.get("noreply-1")?, b"value 1")?;
    Ok(String::new())
}

fn reconnect<C: Client>(client: &mut C) -> Outcome<String> {
    let notes = [after(client, "restart")?, after(client, "crash")?];
    if let Some(reason) = C::NO_RECONNECT {
        return Err(NotOffered(reason).into());
    }
    Ok(notes.into_iter().filter(|note| !note.is_empty()).collect::<Vec<_>>().join("; "))
}

/// Ends the server and starts it again; the client must go on.
fn after<C: Client>(client: &mut C, end: &str) -> Outcome<String> {
    client.set("reconnect", b"before", 0)?;
    ask(json!({"ask": end}))?;
    client.renew()?;
    let mut errors: Vec<String> = Vec::new();
    while let Err(error) = client.set("reconnect", b"after", 0) {
        errors.push(error.to_string());
        if errors.len() == ATTEMPTS {
            return Err(format!("{ATTEMPTS} attempts failed, the last with {error}").into());
        }
    }
    same_bytes("get", client.get("reconnect")?, b"after")?;
    same("get of what the old server held", client.get("many-1")?, None)?;
    client.set("many-1", b"held", 0)?;
    let note = |first| format!("{end}: after {} error(s), the first: {first:.100}", errors.len());
    Ok(errors.first().map(note).unwrap_or_default())
}

/// Does every operation and tells of each.
pub fn run<C: Client>(client: &mut C) {
    type Operation<C> = (&'static str, fn(&mut C) -> Outcome<String>);
    let operations: [Operation<C>; 10] = [
        ("set", set),
        ("get", get),
        ("multi-get", multi_get),
        ("cas", cas),
        ("incr", incr),
        ("touch", touch),
        ("delete", delete),
        ("large", large),
        ("noreply", noreply),
        ("reconnect", reconnect),
    ];
    for (name, act) in operations {
        let (verdict, note) = match act(client) {
            Ok(note) => ("ok", note),
            Err(error) if error.is::<NotOffered>() => ("n/a", error.to_string()),
            Err(error) => ("FAILED", error.to_string()),
        };
        tell(&json!({"operation": name, "verdict": verdict, "note": note}));
    }
}
