use std::io;

use super::*;
use crate::modules::Crate;
use crate::resolve::imports;

/// The rings of a crate of these files, `lib.rs` first, each as its files with blanks between.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let mut read = |path: &Path| {
        let file = files.iter().find(|(name, _)| Path::new(name) == path);
        file.map(|(_, text)| (*text).to_owned()).ok_or(io::Error::from(io::ErrorKind::NotFound))
    };
    let krate = Crate::read(Path::new(files[0].0), &mut read).expect("these files are Rust");
    let names = |ring: Ring| ring.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" ");
    rings(&imports(&krate)).into_iter().map(names).collect()
}

const ROOT: (&str, &str) = ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;");

#[test]
fn imports_one_way_are_no_ring() {
    let (a, b) = (("a.rs", "use crate::b::B; pub struct A(B);"), ("b.rs", "pub struct B;"));
    assert_eq!(found(&[ROOT, a, b]), [""; 0]);
}

#[test]
fn two_files_that_import_each_other_are_a_ring() {
    let (a, b) = (("a.rs", "use crate::b::B; pub struct A(B);"), ("b.rs", "use super::a::A; pub struct B(Box<A>);"));
    assert_eq!(found(&[ROOT, a, b]), ["a.rs b.rs"]);
}

#[test]
fn a_ring_through_the_reexports_of_the_root_is_seen_without_the_root() {
    let (a, b) = (("a.rs", "use crate::B; pub struct A(B);"), ("b.rs", "use crate::A; pub struct B(Box<A>);"));
    assert_eq!(found(&[ROOT, a, b]), ["a.rs b.rs"]);
}

#[test]
fn a_path_without_a_use_is_an_import_also_inside_of_a_macro() {
    let a = ("a.rs", "pub struct A; fn f() { crate::b::B::new(); }");
    for b in ["pub struct B; fn f(_: &crate::A) {}", "pub struct B; fn f() { assert!(x(1, &[crate::a::A])); }"] {
        assert_eq!(found(&[ROOT, a, ("b.rs", b)]), ["a.rs b.rs"], "{b}");
    }
}

#[test]
fn a_module_brought_in_is_imported_by_what_is_named_of_it() {
    let a = ("a.rs", "use crate::b; pub struct A(b::B);");
    assert_eq!(found(&[ROOT, a, ("b.rs", "use crate::a; pub struct B(Box<a::A>);")]), ["a.rs b.rs"]);
    assert_eq!(found(&[ROOT, a, ("b.rs", "use crate::A as Other; pub struct B;")]), ["a.rs b.rs"]);
}

#[test]
fn a_parent_that_only_reexports_its_child_may_be_used_by_it() {
    let (a, b) = (("a.rs", "mod part; pub use part::Part; pub struct A;"), ("b.rs", "pub struct B;"));
    let part = ("a/part.rs", "use super::A; pub struct Part(A);");
    assert_eq!(found(&[ROOT, a, b, part]), [""; 0]);
    let uses = ("a.rs", "mod part; pub use part::Part; pub struct A; fn f(_: Part) {}");
    assert_eq!(found(&[ROOT, uses, b, part]), ["a/part.rs a.rs"]);
}

#[test]
fn what_only_tests_import_closes_no_ring() {
    let a = ("a.rs", "use crate::b::B; pub struct A(B);");
    let b = ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; } #[cfg(all(test, unix))] use crate::A;");
    assert_eq!(found(&[ROOT, a, b]), [""; 0]);
}

#[test]
fn a_ring_of_three_is_one_ring_and_others_are_beside_it() {
    let root = ("lib.rs", "mod a; mod b; mod c; mod d; mod e;");
    let files = [
        root,
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::*; pub struct B;"),
        ("c.rs", "use crate::a::A; use crate::d::D; pub struct C;"),
        ("d.rs", "use crate::e::E; pub struct D;"),
        ("e.rs", "use crate::d::D; pub struct E;"),
    ];
    assert_eq!(found(&files), ["a.rs b.rs c.rs", "d.rs e.rs"]);
}

#[test]
fn names_of_other_crates_import_nothing() {
    let (a, b) =
        (("a.rs", "use b::Thing; pub struct A;"), ("b.rs", "use crate::A; pub use other::Other; pub struct B;"));
    let root = ("lib.rs", "mod a; mod b; pub use a::A; use b::Other; fn f(_: Other) {}");
    assert_eq!(found(&[root, a, b]), [""; 0]);
}
