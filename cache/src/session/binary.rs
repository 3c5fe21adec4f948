//! Packets of the binary protocol: read, then executed like the meta commands that mean the same.
//!
//! Read first: [`crate::proto::binary`] for the bytes, [`crate::operation`] for what is asked of a shard.

use super::{Done, Halt, Stop, Taking};
use crate::cluster::CLUSTER;
use crate::key::KEY_MAX_BYTES;
use crate::operation::Outcome;
use crate::proto::asked::Asked;
use crate::proto::binary::{
    CONFIG_GET, Extras, HEADER_BYTES, Opcode, RequestHeader, config_packet, stat_packet, stat_packets,
};
use crate::proto::form::Form;
use crate::proto::line::Line;
use crate::replies::Owed;
use crate::stats;

/// Bytes of a dump of prefixes, which is one packet here; one that is cut does not end with END.
const PREFIX_DUMP_MAX_BYTES: usize = 128 << 10;

impl Taking<'_> {
    /// Executes the packet at the start of `input`, if its header, extras and key are there.
    #[inline(never)]
    pub(super) fn packet(&mut self, input: &[u8]) -> Result<Done, Halt> {
        let bytes = input.first_chunk::<HEADER_BYTES>().ok_or(Stop::NeedInput)?;
        let Some(header) = RequestHeader::read(bytes) else {
            self.close();
            return Ok(Done::Bytes(0));
        };
        let form = header.form(&[]);
        if let Err(line) = header.check(KEY_MAX_BYTES) {
            self.tell(&form, line)?;
            self.close();
            return Ok(Done::Command(HEADER_BYTES));
        }
        let (command, quiet) = Opcode::of(header.opcode);
        if matches!(command, Opcode::Unknown | Opcode::SaslList | Opcode::Sasl) {
            if header.opcode == CONFIG_GET && self.clients.shared.control.cluster().is_some() {
                return self.config_packet(&header, &form, input);
            }
            // Deviates: memcached passes over the body once more than it is there when it has extras or a key.
            let asked = Asked::PassOver { bytes: header.body_len.into(), line: Line::Error };
            return self.obey(input, HEADER_BYTES, &asked, &form);
        }
        let head_bytes = header.head_bytes();
        let body = input.get(HEADER_BYTES..head_bytes).ok_or(Stop::NeedInput)?;
        let (extras, key) = body.split_at(usize::from(header.extras_len));
        let (extras, form) = (Extras(extras), header.form(key));
        match command {
            // A quit that asks for no answer is obeyed without one.
            Opcode::Quit => {
                self.session.quit = quiet;
                self.tell(&form, Line::Ok)?;
                self.close();
                return Ok(Done::Command(head_bytes));
            }
            Opcode::Stat => {
                self.stat(key, &header, &form)?;
                return Ok(self.executed(head_bytes));
            }
            _ => {}
        }
        let asked = header.asked(extras, key, self.clients.config.shard.use_cas, self.here.now);
        self.obey(input, head_bytes, &asked, &form)
    }

    /// Config Get, which is Amazon ElastiCache's, where there is a cluster to tell of.
    fn config_packet(&mut self, header: &RequestHeader, form: &Form<'_>, input: &[u8]) -> Result<Done, Halt> {
        let head_bytes = header.head_bytes();
        let body = input.get(HEADER_BYTES..head_bytes).ok_or(Stop::NeedInput)?;
        if header.body_len as usize != body.len() {
            let asked = Asked::PassOver { bytes: header.body_len.into(), line: Line::BadFormat };
            return self.obey(input, HEADER_BYTES, &asked, form);
        }
        match body.get(usize::from(header.extras_len)..) {
            Some(CLUSTER) => self.tell_of_cluster(form, |cluster| config_packet(&cluster.text(), header.opaque))?,
            _ => self.tell(form, Outcome::Missed)?,
        }
        Ok(self.executed(head_bytes))
    }

    /// Stat: a packet for each line of the text protocol's answer, then an empty one.
    fn stat(&mut self, group: &[u8], header: &RequestHeader, form: &Form<'_>) -> Result<(), Stop> {
        self.text_room()?;
        let counters = &self.clients.shared.counters;
        let list = |group: &[u8]| stats::list(group, &self.clients.shared, self.here.now);
        let packets = |text: &[u8]| stat_packets(text, header.opaque);
        // memcached compares these by their beginning.
        let text = match group {
            [b'r', b'e', b's', b'e', b't', ..] => {
                counters.reset();
                packets(b"")
            }
            _ if group.starts_with(b"settings") => packets(&list(b"settings").unwrap_or_default()),
            _ if group.starts_with(b"detail") && !self.clients.config.commands.dump => {
                return self.tell(form, Outcome::Missed);
            }
            _ if group.starts_with(b"detail on") => {
                counters.prefixes.set_on(true);
                packets(b"")
            }
            _ if group.starts_with(b"detail off") => {
                counters.prefixes.set_on(false);
                packets(b"")
            }
            _ if group.starts_with(b"detail dump") => {
                let mut out = Vec::new();
                stat_packet(&mut out, header.opaque, b"detailed", &counters.prefixes.dump(PREFIX_DUMP_MAX_BYTES));
                stat_packet(&mut out, header.opaque, b"", b"");
                out.into_boxed_slice()
            }
            group => match list(group) {
                Some(text) => packets(&text),
                None => return self.tell(form, Outcome::Missed),
            },
        };
        self.owe(form, Owed::Text(text));
        Ok(())
    }
}
