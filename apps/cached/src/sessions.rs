//! `Sessions`: which session is a flow's. One that is between commands rests in four bytes, which is most of them at any
//! time where there are many.
//!
//! A session is made when its flow first has something to say. Which has been of no use for longest nobody keeps: where
//! there are more than a few thousand, a hand goes round them, as in the clock algorithm, and lays those to rest that it
//! has found unused twice. Invariant: a flow's session is at exactly one place, awake or at rest, from [`Sessions::begin`]
//! to [`Sessions::end`].

use cache::{ConnId, Resting, Session};
use nic::Queue;
use stack::{FlowId, Poll};

/// Sessions that stay awake whatever comes: some 120 bytes each.
const AWAKE: usize = 4_096;

/// Sessions that are looked at in a turn, at least, where more are awake; and for each that was made since the last.
const LOOKS: usize = 8;
const LOOKS_A_SESSION: usize = 2;

/// A flow without a session.
const NONE: u32 = 0;
/// The first that says where a session is that is awake; before lie [`NONE`] and those at rest, which is where none is.
const FIRST_AWAKE: u32 = 1 + Resting::KINDS;

/// A session that is awake.
#[derive(Debug)]
struct Awake {
    id: FlowId,
    session: Session,
    /// It was asked for since the hand last came by.
    used: bool,
}

/// The sessions of one core.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// By index of the flow: [`NONE`], 1 + what rests, or the place in `awake`, from [`FIRST_AWAKE`] on. Its memory is
    /// touched as flows come.
    places: Box<[u32]>,
    /// Nothing lies before [`FIRST_AWAKE`], so that who looks there for a session finds none, without a test for that.
    awake: Vec<Option<Awake>>,
    free: Vec<u32>,
    /// The place in `awake` that the hand looks at next, and sessions made since it last moved.
    hand: usize,
    made: usize,
}

impl Sessions {
    /// Room for as many as `flows`.
    pub(crate) fn new(flows: usize) -> Self {
        let mut awake = Vec::with_capacity(FIRST_AWAKE as usize + flows);
        awake.resize_with(FIRST_AWAKE as usize, || None);
        Self { places: vec![NONE; flows].into_boxed_slice(), awake, free: Vec::with_capacity(flows), hand: 0, made: 0 }
    }

    /// Most that there can be.
    pub(crate) fn capacity(&self) -> usize {
        self.places.len()
    }

    /// Sessions that are awake.
    pub(crate) fn awake(&self) -> usize {
        self.awake.len() - FIRST_AWAKE as usize - self.free.len()
    }

    /// A new session for the flow, which has nothing to say yet.
    pub(crate) fn begin(&mut self, id: FlowId) {
        if let Some(place) = self.places.get_mut(id.index()) {
            *place = 1 + Resting::NEW.number();
        }
    }

    /// Asks for what [`get`](Self::get) will read.
    #[inline]
    pub(crate) fn prefetch(&self, id: FlowId) {
        if let Some(&place) = self.places.get(id.index())
            && let Some(awake) = self.awake.get(place as usize)
        {
            cpu::prefetch_beyond(awake, 0, size_of_val(awake));
        }
    }

    /// The session of the flow, which is awake then. Whether the flow that has the index now is the one that had it before,
    /// the index alone does not tell: the stack knows.
    #[inline]
    pub(crate) fn get(&mut self, id: FlowId) -> Option<&mut Session> {
        let mut place = *self.places.get(id.index())?;
        if !matches!(self.awake.get(place as usize), Some(Some(_))) {
            place = self.wake(id, place)?;
        }
        let awake = self.awake.get_mut(place as usize)?.as_mut()?;
        debug_assert_eq!(awake.id, id, "a flow's session ends before another flow has its index");
        awake.used = true;
        Some(&mut awake.session)
    }

    /// Makes the session of a flow again, if it had one. Returns where it is.
    #[cold]
    #[inline(never)]
    fn wake(&mut self, id: FlowId, place: u32) -> Option<u32> {
        if place == NONE {
            return None;
        }
        // An index is below the number of flows, which fits 32 bits.
        let session = Session::of_resting(ConnId(id.index() as u32), Resting::of_number(place - 1));
        let awake = Some(Awake { id, session, used: true });
        let at = match self.free.pop() {
            Some(at) => {
                self.awake[at as usize] = awake;
                at
            }
            None => {
                self.awake.push(awake);
                self.awake.len() as u32 - 1
            }
        };
        self.places[id.index()] = at;
        self.made += 1;
        Some(at)
    }

    /// The flow whose session the one of connection `conn` is, if it has one: of one that rests, whatever flow has the index.
    pub(crate) fn flow_of<Q: Queue>(&self, conn: ConnId, poll: &Poll<Q>) -> Option<FlowId> {
        let place = *self.places.get(conn.0 as usize).filter(|&&place| place != NONE)?;
        match self.awake.get(place as usize)? {
            None => poll.open_at(conn.0 as usize),
            Some(awake) => Some(awake.id),
        }
    }

    /// Whether the flow's session is between commands and owes nothing; `None`: it has none. One that rests is that of
    /// whatever flow has the index.
    pub(crate) fn is_idle(&self, id: FlowId) -> Option<bool> {
        let place = *self.places.get(id.index()).filter(|&&place| place != NONE)?;
        match self.awake.get(place as usize)? {
            None => Some(true),
            Some(awake) => (awake.id == id).then(|| awake.session.is_idle()),
        }
    }

    /// The session of the flow, which has none from then on. One that rests is that of whatever flow has the index.
    pub(crate) fn end(&mut self, id: FlowId) -> Option<Session> {
        let place = *self.places.get(id.index()).filter(|&&place| place != NONE)?;
        let session = if place < FIRST_AWAKE {
            Session::of_resting(ConnId(id.index() as u32), Resting::of_number(place - 1))
        } else {
            let awake = self.awake.get_mut(place as usize)?.take_if(|awake| awake.id == id)?;
            self.free.push(place);
            awake.session
        };
        self.places[id.index()] = NONE;
        Some(session)
    }

    /// Lays some to rest that are of no use at present, where many are awake. Once a turn.
    #[inline]
    pub(crate) fn lay_to_rest(&mut self) {
        if self.awake() > AWAKE {
            self.look_at_some();
        }
    }

    #[cold]
    fn look_at_some(&mut self) {
        for _ in 0..LOOKS + LOOKS_A_SESSION * std::mem::take(&mut self.made) {
            if self.awake() <= AWAKE {
                return;
            }
            self.hand = if self.hand + 1 < self.awake.len() { self.hand + 1 } else { FIRST_AWAKE as usize };
            let used = self.awake[self.hand].as_mut().is_some_and(|awake| std::mem::take(&mut awake.used));
            if !used {
                self.lay_down(self.hand);
            }
        }
    }

    /// Lays the session at place `at` to rest, if there is one and it may.
    fn lay_down(&mut self, at: usize) {
        if let Some(awake) = &self.awake[at]
            && let Some(resting) = awake.session.rest()
        {
            self.places[awake.id.index()] = 1 + resting.number();
            self.awake[at] = None;
            self.free.push(at as u32);
        }
    }

    /// Lays every session to rest that may. For tests: looks at all of them.
    pub(crate) fn lay_all_to_rest(&mut self) {
        for at in FIRST_AWAKE as usize..self.awake.len() {
            self.lay_down(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> FlowId {
        FlowId::from_bits(u64::from(index))
    }

    #[test]
    fn a_session_is_found_awake_or_at_rest_until_it_ends() {
        let count = 3 * AWAKE as u32;
        let mut sessions = Sessions::new(count as usize);
        for index in 0..count {
            sessions.begin(id(index));
            assert_eq!(sessions.get(id(index)).map(|session| session.conn()), Some(ConnId(index)));
            sessions.lay_to_rest();
        }
        for _ in 0..count {
            sessions.lay_to_rest();
        }
        assert_eq!(sessions.awake(), AWAKE);
        assert!(sessions.awake.len() < 2 * AWAKE, "{} places", sessions.awake.len());
        for index in 0..count {
            assert_eq!(sessions.is_idle(id(index)), Some(true));
            assert_eq!(sessions.end(id(index)).map(|session| session.conn()), Some(ConnId(index)));
            assert_eq!(sessions.is_idle(id(index)), None);
            assert!(sessions.get(id(index)).is_none() && sessions.end(id(index)).is_none());
        }
        assert_eq!(sessions.awake(), 0);
    }

    #[test]
    fn what_rests_is_what_was_laid_to_rest() {
        for number in 0..Resting::KINDS {
            let resting = Resting::of_number(number);
            assert_eq!((resting.number(), Session::of_resting(ConnId(1), resting).rest()), (number, Some(resting)));
        }
    }
}
