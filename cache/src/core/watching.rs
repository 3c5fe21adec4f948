//! `Watching`: the connections of a core that watch, and the lines that each is told.

use arrayvec::ArrayVec;

use super::conns::{Conn, ConnId, Conns};
use super::given::GivenText;
use crate::proto::line::Line;
use crate::watch::{LINE_MAX_BYTES, WATCHERS_MAX, Watchers};

/// Lines that a watcher's text holds at most.
const LINES_PER_TEXT: usize = 16;

/// A watcher's text on its way out.
#[derive(Debug)]
pub(crate) struct WatchText {
    /// Its place among the watchers.
    pub(crate) place: usize,
    text: GivenText,
}

impl WatchText {
    pub(crate) fn new(place: usize) -> WatchText {
        let mut text = GivenText::with_capacity((LINES_PER_TEXT + 1) * LINE_MAX_BYTES);
        text.text.extend_from_slice(Line::Ok.bytes());
        WatchText { place, text }
    }

    /// Writes the watcher's lines into `out`. Returns the bytes written, and whether what is left did not fit.
    pub(crate) fn give(&mut self, watchers: &Watchers, out: &mut [u8]) -> (usize, bool) {
        let mut written = 0;
        loop {
            written += self.text.write(&mut out[written..]);
            if !self.text.is_empty() {
                return (written, true);
            }
            watchers.lines(self.place, LINES_PER_TEXT, &mut self.text.text);
            if self.text.is_empty() {
                return (written, false);
            }
        }
    }
}

/// The watchers of one core.
#[derive(Debug, Default)]
pub(crate) struct Watching(ArrayVec<ConnId, WATCHERS_MAX>);

impl Watching {
    /// Makes `conn`, of core `core`, a watcher of `kinds`; `None` when there are too many.
    pub(crate) fn begin(
        &mut self,
        watchers: &Watchers,
        conns: &mut Conns,
        (core, conn): (usize, ConnId),
        kinds: u32,
    ) -> Option<WatchText> {
        let place = watchers.enter(core, kinds)?;
        conns[conn].watches = Some(place as u8);
        self.0.push(conn);
        Some(WatchText::new(place))
    }

    /// The watcher at `place` is gone.
    pub(crate) fn end(&mut self, watchers: &Watchers, conns: &mut Conns, conn: ConnId, place: usize) {
        conns[conn].watches = None;
        self.0.retain(|other| *other != conn);
        watchers.leave(place);
    }

    /// Names the watchers for whom there are lines, unless they have not read the last ones.
    pub(crate) fn wake(&self, watchers: &Watchers, conns: &mut Conns) {
        for &conn in &self.0 {
            if has_lines(watchers, &conns[conn]) {
                conns.make_ready(conn);
            }
        }
    }

    /// Whether any watcher can be given lines.
    pub(crate) fn has_any(&self, watchers: &Watchers, conns: &Conns) -> bool {
        self.0.iter().any(|&conn| has_lines(watchers, &conns[conn]))
    }
}

fn has_lines(watchers: &Watchers, conn: &Conn) -> bool {
    !conn.is_full() && conn.watches.is_some_and(|at| watchers.has_news(at.into()))
}
