//! `Finding`: what is, what it should be, and the command that mends it, in one line.

use std::fmt;

use nic::settings::Setting;

/// One line for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    kind: Kind,
    is: String,
    should: String,
    command: Option<String>,
    /// The setting that is changed, and to what.
    change: Option<(Setting, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Another would be better; it is left to the operator.
    Advice,
    /// It is changed.
    Change,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(is: impl fmt::Display) -> Self {
        Self::new(Kind::Ok, is, "", None)
    }

    /// Worth knowing.
    pub(super) fn note(is: impl fmt::Display) -> Self {
        Self::new(Kind::Note, is, "", None)
    }

    /// Better otherwise, by a command that is left to the operator.
    pub(super) fn advice(is: impl fmt::Display, should: impl fmt::Display, command: impl fmt::Display) -> Self {
        Self::new(Kind::Advice, is, should, Some(command.to_string()))
    }

    /// To be changed by a command.
    pub(super) fn change(is: impl fmt::Display, should: impl fmt::Display, command: impl fmt::Display) -> Self {
        Self::new(Kind::Change, is, should, Some(command.to_string()))
    }

    /// To be changed by setting `setting` to `value`; `is` and `should` are said.
    pub(super) fn set(
        is: impl fmt::Display,
        should: impl fmt::Display,
        link: &str,
        setting: Setting,
        value: &str,
    ) -> Self {
        let command = setting.command(link, value);
        Self { change: Some((setting, value.to_owned())), ..Self::new(Kind::Change, is, should, command) }
    }

    /// The same, by another command than the setting's own.
    pub(super) fn by(self, command: String) -> Self {
        Self { command: Some(command), ..self }
    }

    fn new(kind: Kind, is: impl fmt::Display, should: impl fmt::Display, command: Option<String>) -> Self {
        Self { kind, is: is.to_string(), should: should.to_string(), command, change: None }
    }

    /// The setting that is to be changed, and to what.
    pub(super) fn wanted(&self) -> Option<(&Setting, &str)> {
        self.change.as_ref().map(|(setting, value)| (setting, value.as_str()))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.kind {
            Kind::Ok => "ok",
            Kind::Note => "note",
            Kind::Advice => "advice",
            Kind::Change => "change",
        };
        write!(f, "{word:<6} {}", self.is)?;
        if !self.should.is_empty() {
            write!(f, "; should be {}", self.should)?;
        }
        self.command.as_ref().map_or(Ok(()), |command| write!(f, ": {command}"))
    }
}
