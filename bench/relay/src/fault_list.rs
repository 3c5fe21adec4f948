//! `FaultList`: the faults of a direction as words of the command line, `delay=5ms,loss=1%`.
//!
//! A list that is given later adds to an earlier one, or overrides it word by word.

use std::str::FromStr;
use std::time::Duration;

use nic::{BurstLoss, Corrupt, Faults, Flap, RateLimit, Reorder};

/// What the words are, for the help of the command line.
pub const WORDS: &str = "\
delay=5ms            time that a frame takes
jitter=1ms           up to this much more, without reordering
loss=1%              frames lost, each on its own
burst=1%:30%:90%     losses in bursts: chance to enter, to leave, to lose
duplicate=1%         frames that arrive twice
reorder=10%:3:5ms    frames overtaken by up to 3 later ones, held for 5 ms at most
corrupt=1%:15        frames with a burst of up to 15 flipped bits, which a checksum detects
cut=1%               frames whose end is missing
rate=100M:64000      bits a second (k, M, G), and the bytes that wait before it
mtu=1400             longer packets are lost, and nobody is told
flap=1s/3s           the link is down for 1 s in every 3 s";

/// Faults as they were written: names and values that `set` takes.
#[derive(Debug, Clone, Default)]
pub struct FaultList(Vec<(String, String)>);

impl FaultList {
    /// Puts the faults of the list into `faults`.
    pub fn apply(&self, faults: &mut Faults) {
        for (name, value) in &self.0 {
            // Every word was taken once, when it was read.
            let _ = set(faults, name, value);
        }
    }
}

/// A word that names no fault, or has a value that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{word}' is no fault; write {form}")]
pub struct NoFault {
    word: String,
    form: &'static str,
}

impl FromStr for FaultList {
    type Err = NoFault;

    fn from_str(list: &str) -> Result<Self, NoFault> {
        let checked = |word: &str| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            set(&mut Faults::default(), name, value).map_err(|form| NoFault { word: word.to_owned(), form })?;
            Ok((name.to_owned(), value.to_owned()))
        };
        list.split(',').filter(|word| !word.is_empty()).map(checked).collect::<Result<_, _>>().map(Self)
    }
}

/// Sets one fault.
///
/// # Errors
/// How faults are written, where there is none of this name; how this one is, where its value is not read.
fn set(faults: &mut Faults, name: &str, value: &str) -> Result<(), &'static str> {
    match name {
        "delay" => faults.delay = time(value).ok_or("delay=TIME, such as delay=5ms")?,
        "jitter" => faults.jitter = time(value).ok_or("jitter=TIME, such as jitter=1ms")?,
        "loss" => faults.loss = share(value).ok_or("loss=SHARE, such as loss=1%")?,
        "burst" => {
            let form = "burst=ENTER:LEAVE:LOSS, such as burst=1%:30%:90%";
            faults.burst_loss = Some(burst(value).ok_or(form)?);
        }
        "duplicate" => faults.duplicate = share(value).ok_or("duplicate=SHARE, such as duplicate=1%")?,
        "reorder" => {
            let form = "reorder=SHARE:DEPTH:HOLD, such as reorder=10%:3:5ms";
            faults.reorder = Some(reorder(value).ok_or(form)?);
        }
        "corrupt" => {
            faults.corrupt = Some(corrupt(value).ok_or("corrupt=SHARE:BITS, such as corrupt=1%:15")?);
        }
        "cut" => faults.cut = share(value).ok_or("cut=SHARE, such as cut=1%")?,
        "rate" => {
            let form = "rate=BITS_A_SECOND:QUEUE_BYTES, such as rate=100M:64000";
            faults.rate = Some(rate(value).ok_or(form)?);
        }
        "mtu" => faults.mtu_hole = Some(value.parse().map_err(|_| "mtu=BYTES, such as mtu=1400")?),
        "flap" => faults.flap = Some(flap(value).ok_or("flap=DOWN/EVERY, such as flap=1s/3s")?),
        _ => return Err("one of delay jitter loss burst duplicate reorder corrupt cut rate mtu flap"),
    }
    Ok(())
}

fn time(value: &str) -> Option<Duration> {
    humantime::parse_duration(value).ok()
}

/// A probability, as a number from 0 to 1 or in percent. Whether it is one is asked by `Faults::check`.
fn share(value: &str) -> Option<f64> {
    match value.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok().map(|percent| percent / 100.0),
        None => value.parse().ok(),
    }
}

fn burst(value: &str) -> Option<BurstLoss> {
    let mut shares = value.split(':').map(share);
    let (enter, leave, loss) = (shares.next()??, shares.next()??, shares.next()??);
    shares.next().is_none().then_some(BurstLoss { enter, leave, loss })
}

fn reorder(value: &str) -> Option<Reorder> {
    let (probability, rest) = value.split_once(':')?;
    let (depth, hold) = rest.split_once(':')?;
    Some(Reorder { probability: share(probability)?, depth: depth.parse().ok()?, hold: time(hold)? })
}

fn corrupt(value: &str) -> Option<Corrupt> {
    let (probability, bits) = value.split_once(':')?;
    Some(Corrupt { probability: share(probability)?, bits: bits.parse().ok()? })
}

fn rate(value: &str) -> Option<RateLimit> {
    let (bits, queue) = value.split_once(':')?;
    let units = [("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("", 1)];
    let (number, factor) = units.iter().find_map(|(unit, factor)| Some((bits.strip_suffix(unit)?, *factor)))?;
    let bits_per_second = number.parse::<u64>().ok()?.checked_mul(factor)?;
    Some(RateLimit { bits_per_second, queue_bytes: queue.parse().ok()? })
}

fn flap(value: &str) -> Option<Flap> {
    let (down, every) = value.split_once('/')?;
    Some(Flap { every: time(every)?, down: time(down)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(lists: &[&str]) -> Faults {
        let mut faults = Faults::default();
        for list in lists {
            list.parse::<FaultList>().expect("a list of faults").apply(&mut faults);
        }
        faults
    }

    #[test]
    fn every_word_of_the_help_is_taken() {
        let words: Vec<&str> = WORDS.lines().filter_map(|line| line.split(' ').next()).collect();
        let read = faults(&[&words.join(",")]);
        assert_eq!(
            read,
            Faults {
                loss: 0.01,
                burst_loss: Some(BurstLoss { enter: 0.01, leave: 0.3, loss: 0.9 }),
                duplicate: 0.01,
                reorder: Some(Reorder { probability: 0.1, depth: 3, hold: Duration::from_millis(5) }),
                corrupt: Some(Corrupt { probability: 0.01, bits: 15 }),
                delay: Duration::from_millis(5),
                jitter: Duration::from_millis(1),
                rate: Some(RateLimit { bits_per_second: 100_000_000, queue_bytes: 64_000 }),
                blackholes: Vec::new(),
                flap: Some(Flap { every: Duration::from_secs(3), down: Duration::from_secs(1) }),
                mtu_hole: Some(1_400),
                cut: 0.01,
            }
        );
        assert_eq!(read.check(), Ok(()));
    }

    #[test]
    fn a_later_list_overrides_what_it_names_and_keeps_the_rest() {
        let read = faults(&["delay=5ms,loss=0.5", "loss=0"]);
        assert_eq!((read.delay, read.loss), (Duration::from_millis(5), 0.0));
    }

    #[test]
    fn what_is_no_fault_is_refused_with_the_form_that_is() {
        for (list, form) in [
            ("delay", "delay=5ms"),
            ("delay=5", "delay=5ms"),
            ("loss=x%", "loss=1%"),
            ("burst=1%:2%", "burst=1%:30%:90%"),
            ("burst=1%:2%:3%:4%", "burst=1%:30%:90%"),
            ("reorder=1%", "reorder=10%:3:5ms"),
            ("rate=10T:1", "rate=100M:64000"),
            ("rate=99999999999G:1", "rate=100M:64000"),
            ("mtu=-1", "mtu=1400"),
            ("delay=1ms,wind=strong", "one of delay jitter"),
        ] {
            let refused = list.parse::<FaultList>().expect_err(list).to_string();
            assert!(refused.contains(form), "{list}: {refused}");
        }
    }
}
