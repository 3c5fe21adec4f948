//! Why a command line is refused, in one line each: the value, the limit, what to do.

use std::error::Error;

/// Why the command line was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// A number was out of its limits, or none.
    #[error("{option} {value}: not {unit} from {least} to {most}{hint}")]
    Number {
        /// The option's letter or name.
        option: &'static str,
        /// What was typed.
        value: String,
        /// What it counts.
        unit: &'static str,
        /// Smallest that is taken.
        least: i64,
        /// Largest that is taken.
        most: i64,
        /// What to do next, if there is more to say.
        hint: &'static str,
    },
    /// An address was not ADDRESS/PREFIX.
    #[error(
        "--address {value}: not an address with a prefix, of IPv4 of 1 to 30 bits, of IPv6 of 1 to 128; write it like 10.77.0.2/24 or 2001:db8::2/64"
    )]
    Address {
        /// What was typed.
        value: String,
    },
    /// A network was not ADDRESS/PREFIX.
    #[error(
        "{option} {value}: not a network, with no bits behind its prefix; write it like 10.77.0.0/16 or 2001:db8::/32"
    )]
    Network {
        /// The option's name.
        option: &'static str,
        /// What was typed.
        value: String,
    },
    /// The address cannot be a host's.
    #[error("--address {value}: {why}; choose an unused address of the network that the interface is on")]
    NotAHost {
        /// What was typed.
        value: String,
        /// What it is instead.
        why: &'static str,
    },
    /// A size was not a number with k, m or g.
    #[error("-I {value}: not a size from 1k to 1024m; write it like 512k or 1m")]
    Size {
        /// What was typed.
        value: String,
    },
    /// A word was none of those known.
    #[error("{option} {value}: not one of {words}")]
    Word {
        /// The option's letter or name.
        option: &'static str,
        /// What was typed.
        value: String,
        /// Those known.
        words: &'static str,
    },
    /// Fewer CPUs than threads were named.
    #[error("--cpus names {named} CPUs for -t {threads} threads; name one for each thread")]
    Cpus {
        /// CPUs named.
        named: usize,
        /// Threads asked for.
        threads: usize,
    },
    /// `-l` names what the stack does not have, or not all that it has.
    #[error("-l {value}: {why}; give * or the stack's own {own}, which --address sets")]
    Listen {
        /// What was typed.
        value: String,
        /// What is wrong with it.
        why: String,
        /// The stack's own addresses.
        own: String,
    },
    /// An option of memcached's that this server does not keep.
    #[error("{option}: {why}")]
    Refused {
        /// As typed.
        option: String,
        /// What there is instead.
        why: &'static str,
    },
    /// A word of `-o` that memcached does not have either.
    #[error("-o {value}: unknown; `--help` lists what -o takes")]
    Unknown {
        /// What was typed.
        value: String,
    },
    /// A file named cannot be used.
    #[error("{option} {path}: {why}")]
    File {
        /// The option's letter.
        option: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// `-u` names nobody.
    #[error("-u {value}: {why}")]
    User {
        /// What was typed.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What a command line gets instead of a server.
#[derive(Debug)]
pub enum Refusal {
    /// A message of clap's: help, the version, or what is wrong with a name; [`clap::Error::print`] knows where to.
    Message(clap::Error),
    /// A value that is refused, in one line.
    Option(OptionError),
}

impl Refusal {
    /// Of what clap says, which may have been told by a function of ours that reads a value.
    pub(super) fn of(message: clap::Error) -> Refusal {
        match message.source().and_then(|source| source.downcast_ref::<OptionError>()) {
            Some(error) => Refusal::Option(error.clone()),
            None => Refusal::Message(message),
        }
    }
}
