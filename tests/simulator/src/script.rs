//! What a task does: `[simulate outcome=fail delay=2 deliveries=3]` anywhere in the text of a submission.
//!
//! | key | values | default |
//! |---|---|---|
//! | `outcome` | `succeed`, `fail`, `moderated`, `timeout`, `cancelled`, `expired`; what the provider cannot express becomes a plain failure | `succeed` |
//! | `delay` | seconds from the submission until the task finishes | 0.5 |
//! | `callback` | `send`; `lose`: no callback is sent; `lose_final`: all but the final one are sent | `send` |
//! | `deliveries` | how often the final callback is sent | 1 |
//! | `spaced` | these copies are sent a second apart, not concurrently | |
//! | `order` | `late_processing`: an intermediate callback follows the final one | |
//! | `early` | the final callback is sent before the response to the submission | |
//! | `then` | `succeed`: a success follows the failure, another `delay` later | |
//! | `size` | length of each video in bytes | some 280,000 |
//! | `videos` | number of videos, if the provider can return several | 1 |
//! | `link_ttl` | lifetime of a link in seconds | the provider's |
//! | `link` | the first link of each file returns 403 (`dead`) or 404 (`gone`) and a refreshed one works; `lost`: no link works | |
//! | `extras` | `gone`: covers and last frames return 404 | |
//! | `not_ready` | the file returns 404 to this many requests | 0 |
//! | `submit` | `refuse`, `moderate`, `balance`, `busy`: refused, no task; `timeout`: a task, but no response; `error500`: a task, but a 500 | |
//! | `shape` | `a`, `b`, `c`, `d`: `RelayDance` only | the configured one |
//! | `fault`, `at`, `rate`, `times`, `hops` | the file is served with a fault, see [`crate::origin`] | |
//!
//! A provider refuses a submission with an unknown key or value, with its own error.

use std::time::Duration;

use serde_json::Value;

use crate::{origin::Fault, provider::Shape};

/// How a task ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With its files.
    #[default]
    Succeed,
    /// With an internal error of the provider.
    Fail,
    /// Rejected by content moderation.
    Moderated,
    /// Timed out while it ran.
    Timeout,
    /// Cancelled by the customer.
    Cancelled,
    /// Expired before it ran.
    Expired,
}

/// Whether callbacks are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallbackFate {
    /// All of them.
    #[default]
    Send,
    /// None.
    Lose,
    /// All but the final ones.
    LoseFinal,
}

/// How copies of the final callback follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spacing {
    /// All at once.
    #[default]
    Concurrent,
    /// A second apart (times the configured time scale).
    Spaced,
}

/// The order of callbacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// In the order of the phases.
    #[default]
    Natural,
    /// Another intermediate callback follows the final one.
    LateProcessing,
}

/// When the response to a submission is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseTiming {
    /// At once.
    #[default]
    Immediate,
    /// After the first attempt of the final callback.
    AfterCallback,
}

/// Whether covers and last frames can be fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtrasFate {
    /// They can.
    #[default]
    Available,
    /// They return 404.
    Gone,
}

/// Whether links work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkFate {
    /// They work until they expire.
    #[default]
    Alive,
    /// The first one of each file returns 403.
    Dead,
    /// The first one of each file returns 404.
    Gone,
    /// All of them return 403.
    Lost,
}

/// How the provider handles the submission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubmitFate {
    /// Accepted.
    #[default]
    Accept,
    /// Refused for invalid parameters.
    Refuse,
    /// Refused by content moderation.
    Moderate,
    /// Refused for insufficient credits.
    Balance,
    /// Refused by a concurrency limit.
    Busy,
    /// The task is created, but the response never arrives.
    Timeout,
    /// The task is created, but the response is an internal error.
    Error500,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    #[default]
    Nothing,
    /// A success, another delay later.
    Succeed,
}

/// A script. The table of keys is in the documentation of this module.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// How the task ends.
    pub outcome: Outcome,
    /// Time from the submission until the task finishes.
    pub delay: Duration,
    /// Whether callbacks are sent.
    pub callback: CallbackFate,
    /// How often the final callback is sent.
    pub deliveries: u32,
    /// How copies of the final callback follow each other.
    pub spacing: Spacing,
    /// The order of callbacks.
    pub order: Order,
    /// When the response to the submission is sent.
    pub response: ResponseTiming,
    /// What follows a failure.
    pub then: Then,
    /// Length of each video in bytes. `None` gives some 280,000.
    pub size: Option<u64>,
    /// Number of videos, 1 to 10.
    pub videos: u32,
    /// Lifetime of a link. `None` gives the provider's.
    pub link_ttl: Option<Duration>,
    /// Whether links work.
    pub link: LinkFate,
    /// Whether covers and last frames can be fetched.
    pub extras: ExtrasFate,
    /// How many requests for a file get a 404 first.
    pub not_ready: u32,
    /// How the provider handles the submission.
    pub submit: SubmitFate,
    /// The shape of `RelayDance` responses. `None` gives the configured one.
    pub shape: Option<Shape>,
    /// The fault of the files. `None` serves them properly.
    pub fault: Option<Fault>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            outcome: Outcome::default(),
            delay: Duration::from_millis(500),
            callback: CallbackFate::default(),
            deliveries: 1,
            spacing: Spacing::default(),
            order: Order::default(),
            response: ResponseTiming::default(),
            then: Then::default(),
            size: None,
            videos: 1,
            link_ttl: None,
            link: LinkFate::default(),
            extras: ExtrasFate::default(),
            not_ready: 0,
            submit: SubmitFate::default(),
            shape: None,
            fault: None,
        }
    }
}

/// An invalid script. The provider refuses the submission with this text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// An unknown key.
    #[error("simulate: unknown key {0:?}")]
    UnknownKey(String),
    /// A value that the key does not allow.
    #[error("simulate: {value:?} is not a value of {key}")]
    Value {
        /// The key.
        key: String,
        /// The invalid value.
        value: String,
    },
    /// The closing bracket is missing.
    #[error("simulate: the closing bracket is missing")]
    Open,
}

const MARK: &str = "[simulate";

impl Script {
    /// Applies the scripts in all strings of `body` to `self`, in order.
    pub(crate) fn read(mut self, body: &Value) -> Result<Self, ScriptError> {
        self.read_value(body)?;
        Ok(self)
    }

    fn read_value(&mut self, value: &Value) -> Result<(), ScriptError> {
        match value {
            Value::String(text) => self.read_text(text),
            Value::Array(values) => values.iter().try_for_each(|value| self.read_value(value)),
            Value::Object(fields) => fields.values().try_for_each(|value| self.read_value(value)),
            _ => Ok(()),
        }
    }

    /// Applies the scripts in a text.
    pub fn read_text(&mut self, text: &str) -> Result<(), ScriptError> {
        let mut rest = text;
        while let Some(start) = rest.find(MARK) {
            let inside = &rest[start + MARK.len()..];
            let end = inside.find(']').ok_or(ScriptError::Open)?;
            for word in inside[..end].split_whitespace() {
                match word.split_once('=') {
                    Some((key, value)) => self.set(key, value)?,
                    None => self.flag(word)?,
                }
            }
            rest = &inside[end..];
        }
        Ok(())
    }

    fn flag(&mut self, word: &str) -> Result<(), ScriptError> {
        match word {
            "early" => self.response = ResponseTiming::AfterCallback,
            "spaced" => self.spacing = Spacing::Spaced,
            _ => return Err(ScriptError::UnknownKey(word.to_owned())),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), ScriptError> {
        let wrong = || ScriptError::Value { key: key.to_owned(), value: value.to_owned() };
        let number = || value.parse::<u64>().map_err(|_| wrong());
        let small = || value.parse::<u32>().map_err(|_| wrong());
        let seconds =
            || value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(wrong);
        let one_of = |index: Option<usize>| index.ok_or_else(wrong);
        let position = |words: &[&str]| words.iter().position(|word| *word == value);
        match key {
            "outcome" => {
                let words = ["succeed", "fail", "moderated", "timeout", "cancelled", "expired"];
                self.outcome = [
                    Outcome::Succeed,
                    Outcome::Fail,
                    Outcome::Moderated,
                    Outcome::Timeout,
                    Outcome::Cancelled,
                    Outcome::Expired,
                ][one_of(position(&words))?];
            }
            "callback" => {
                let index = one_of(position(&["send", "lose", "lose_final"]))?;
                self.callback = [CallbackFate::Send, CallbackFate::Lose, CallbackFate::LoseFinal][index];
            }
            "link" => {
                let index = one_of(position(&["dead", "gone", "lost"]))?;
                self.link = [LinkFate::Dead, LinkFate::Gone, LinkFate::Lost][index];
            }
            "submit" => {
                let words = ["refuse", "moderate", "balance", "busy", "timeout", "error500"];
                self.submit = [
                    SubmitFate::Refuse,
                    SubmitFate::Moderate,
                    SubmitFate::Balance,
                    SubmitFate::Busy,
                    SubmitFate::Timeout,
                    SubmitFate::Error500,
                ][one_of(position(&words))?];
            }
            "shape" => {
                let index = one_of(position(&["a", "b", "c", "d"]))?;
                self.shape = Some([Shape::A, Shape::B, Shape::C, Shape::D][index]);
            }
            "order" => {
                one_of(position(&["late_processing"]))?;
                self.order = Order::LateProcessing;
            }
            "then" => {
                one_of(position(&["succeed"]))?;
                self.then = Then::Succeed;
            }
            "extras" => {
                one_of(position(&["gone"]))?;
                self.extras = ExtrasFate::Gone;
            }
            "delay" => self.delay = seconds()?,
            "link_ttl" => self.link_ttl = Some(seconds()?),
            "deliveries" => self.deliveries = small()?,
            "videos" => self.videos = small().ok().filter(|videos| (1..=10).contains(videos)).ok_or_else(wrong)?,
            "not_ready" => self.not_ready = small()?,
            "size" => self.size = Some(number()?),
            "fault" | "at" | "rate" | "times" | "hops" => {
                self.fault.get_or_insert_default().set(key, value).ok_or_else(wrong)?;
            }
            _ => return Err(ScriptError::UnknownKey(key.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn script(text: &str) -> Result<Script, ScriptError> {
        Script::default().read(&json!({ "content": [{ "text": text }] }))
    }

    #[test]
    fn text_without_a_script_changes_nothing() {
        assert_eq!(script("a cat [in a box]"), Ok(Script::default()));
    }

    #[test]
    fn scripts_are_found_anywhere_in_the_body() {
        let read = script(
            "a cat [simulate outcome=moderated delay=0.25 deliveries=3 spaced early order=late_processing size=1000 \
             videos=2 link=dead link_ttl=1.5 extras=gone not_ready=2 submit=error500 then=succeed callback=lose_final shape=c] runs",
        )
        .expect("all keys are known");
        assert_eq!(
            read,
            Script {
                outcome: Outcome::Moderated,
                delay: Duration::from_millis(250),
                callback: CallbackFate::LoseFinal,
                deliveries: 3,
                spacing: Spacing::Spaced,
                order: Order::LateProcessing,
                response: ResponseTiming::AfterCallback,
                then: Then::Succeed,
                size: Some(1000),
                videos: 2,
                link_ttl: Some(Duration::from_millis(1500)),
                link: LinkFate::Dead,
                extras: ExtrasFate::Gone,
                not_ready: 2,
                submit: SubmitFate::Error500,
                shape: Some(Shape::C),
                fault: None,
            }
        );
    }

    #[test]
    fn unknown_keys_and_values_are_errors() {
        assert_eq!(script("[simulate colour=red]"), Err(ScriptError::UnknownKey("colour".to_owned())));
        assert_eq!(script("[simulate quickly]"), Err(ScriptError::UnknownKey("quickly".to_owned())));
        assert_eq!(script("[simulate delay=1"), Err(ScriptError::Open));
        for wrong in ["delay=-1", "delay=soon", "outcome=maybe", "videos=0", "deliveries=", "fault=odd", "at=x"] {
            assert!(matches!(script(&format!("[simulate {wrong}]")), Err(ScriptError::Value { .. })), "{wrong}");
        }
    }

    #[test]
    fn several_scripts_are_merged() {
        let read = script("[simulate delay=1] and [simulate deliveries=2]").expect("both are known");
        assert_eq!((read.delay, read.deliveries), (Duration::from_secs(1), 2));
    }
}
