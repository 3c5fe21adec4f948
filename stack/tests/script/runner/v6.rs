//! IPv6 in packet scripts: what the peer sends header by header (`layers.rs`, `build.rs`), what the host says besides its
//! connections (`told.rs`). Read first: `stack/tests/script/README.md`, "Packets of IPv6".

#[path = "v6/build.rs"]
pub mod build;
#[path = "v6/layers.rs"]
pub mod layers;
#[path = "v6/names.rs"]
pub mod names;
#[path = "v6/told.rs"]
pub mod told;
