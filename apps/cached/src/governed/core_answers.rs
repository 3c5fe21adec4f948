//! `CoreAnswers`: what cores say to an order that each of some of them was given, as it comes.

use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};

use crate::orders::{Order, Orders};

/// Answers that have come, and the cores whose have not.
#[derive(Debug)]
pub(super) struct CoreAnswers<T> {
    came: Vec<T>,
    missing: Vec<(usize, Receiver<T>)>,
}

impl<T> CoreAnswers<T> {
    /// Gives each of `cores` the order that `order` makes of the way back to here. One that has no room for another order is
    /// passed over, and never answers.
    pub(super) fn ask(
        orders: &Orders,
        cores: impl IntoIterator<Item = usize>,
        order: impl Fn(Sender<T>) -> Order,
    ) -> CoreAnswers<T> {
        let missing = cores.into_iter().map(|core| {
            let (to, answer) = mpsc::channel();
            // One that is refused is dropped, and with it the way back.
            let _ = orders.give(core, order(to));
            (core, answer)
        });
        CoreAnswers { came: Vec::new(), missing: missing.collect() }
    }

    /// All answers, once the last has come; none of them where one never will, or some have not by the time that is `over`.
    ///
    /// # Errors
    /// In words, which core it is.
    pub(super) fn look(&mut self, over: bool) -> Result<Option<&mut Vec<T>>, String> {
        let mut never = None;
        self.missing.retain(|(core, answer)| match answer.try_recv() {
            Ok(answer) => {
                self.came.push(answer);
                false
            }
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Disconnected) => {
                never.get_or_insert(*core);
                true
            }
        });
        match (never, self.missing.first()) {
            (Some(core), _) => Err(takes_no_more(core)),
            (None, Some((core, _))) if over => Err(format!("core {core} has not done what it was told in time")),
            (None, Some(_)) => Ok(None),
            (None, None) => Ok(Some(&mut self.came)),
        }
    }
}

/// Why a core is told nothing more.
pub(super) fn takes_no_more(core: usize) -> String {
    format!("core {core} has not done what it was told before, and takes no more")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nic::Doorbell;

    use super::*;

    #[test]
    fn the_core_that_does_not_answer_is_named_and_so_is_one_that_takes_nothing_more() {
        let doorbells = [(); 2].map(|()| Arc::new(Doorbell::new().expect("a descriptor")));
        let orders = Orders::new(&doorbells);
        let all = || CoreAnswers::ask(&orders, 0..2, |done| Order::StopListening { done });
        let mut answers = all();
        let obey = |core| {
            let Some(Order::StopListening { done }) = orders.take(core) else { panic!("it was told") };
            let _ = done.send(());
        };
        assert_eq!(answers.look(false), Ok(None));
        obey(0);
        assert_eq!(answers.look(false), Ok(None));
        assert_eq!(answers.look(true), Err("core 1 has not done what it was told in time".to_owned()));
        obey(1);
        assert_eq!(answers.look(true).map(|all| all.map(|all| all.len())), Ok(Some(2)), "it came just in time");
        // Until there is no room.
        let full = std::iter::from_fn(|| Some(all())).find_map(|mut answers| answers.look(false).err());
        let full = full.expect("there is an end to it");
        assert_eq!(full, "core 0 has not done what it was told before, and takes no more");
    }
}
