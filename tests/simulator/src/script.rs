//! What a task is told to do: `[simulate outcome=fail delay=2 deliveries=3]` anywhere in the text of a submission.
//!
//! | key | values | default |
//! |---|---|---|
//! | `outcome` | `succeed`, `fail`, `moderated`, `timeout`, `cancelled`, `expired`; what the provider has no word for becomes its failure | `succeed` |
//! | `delay` | seconds from the submission until the task is final | 0.5 |
//! | `callback` | `send`; `lose`: none is ever sent; `lose_final`: only the final one is not | `send` |
//! | `deliveries` | how often the same final callback is sent | 1 |
//! | `spaced` | the repeats come a second apart, not all at once | |
//! | `order` | `late_processing`: an intermediate push follows the final one | |
//! | `early` | the submission is answered only after the callback was sent | |
//! | `then` | `succeed`: a failure is followed by a success, another `delay` later | |
//! | `size` | length of each video in bytes | some 280,000 |
//! | `videos` | how many, where the provider can return several | 1 |
//! | `link_life` | seconds that a link lives | the provider's |
//! | `link` | `dead`: the first link of each file answers 403, `gone`: 404, and a refreshed one works; `lost`: no link ever works | |
//! | `not_ready` | the file answers 404 to this many requests | 0 |
//! | `submit` | `refuse`, `moderate`, `balance`, `busy`: refused, no task; `timeout`: a task and no answer; `error500`: a task and a 500 | |
//! | `shape` | `a`, `b`, `c`, `d`: `RelayDance` only | the configured one |
//! | `fault`, `at`, `rate`, `times`, `hops` | the file is served badly, see [`crate::origin`] | |
//!
//! A key or value that is not in this table gets the submission refused, in the provider's own way of refusing.

use std::time::Duration;

use serde_json::Value;

use crate::{origin::Fault, provider::Shape};

/// How a task ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With files.
    #[default]
    Succeed,
    /// With an error of the provider.
    Fail,
    /// Refused by content moderation.
    Moderated,
    /// Not done in time.
    Timeout,
    /// Cancelled.
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

/// How repeats of the final callback follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// All at once.
    #[default]
    Together,
    /// A second apart (times the configured time scale).
    Spaced,
}

/// In which order pushes arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As the task went.
    #[default]
    Natural,
    /// One intermediate push after the final one.
    LateProcessing,
}

/// When a submission is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// At once.
    #[default]
    Immediate,
    /// After the final callback was sent.
    AfterCallback,
}

/// What becomes of the links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkFate {
    /// They work until they expire.
    #[default]
    Alive,
    /// The first one of each file answers 403.
    Dead,
    /// The first one of each file answers 404.
    Gone,
    /// All of them answer 403.
    Lost,
}

/// What becomes of the submission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubmitFate {
    /// Accepted.
    #[default]
    Accept,
    /// Refused for its parameters.
    Refuse,
    /// Refused by content moderation.
    Moderate,
    /// Refused for want of credit.
    Balance,
    /// Refused because too much is going on.
    Busy,
    /// The task is made, and the answer never arrives.
    Timeout,
    /// The task is made, and the answer is an internal error.
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

/// What a task does. The table of keys is in the documentation of this module.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// How the task ends.
    pub outcome: Outcome,
    /// From the submission until the end.
    pub delay: Duration,
    /// Whether callbacks are sent.
    pub callback: CallbackFate,
    /// How often the final callback is sent.
    pub deliveries: u32,
    /// How repeats follow each other.
    pub pace: Pace,
    /// In which order pushes arrive.
    pub order: Order,
    /// When the submission is answered.
    pub answer: Answer,
    /// What follows a failure.
    pub then: Then,
    /// Length of each video.
    pub size: Option<u64>,
    /// How many videos.
    pub videos: u32,
    /// How long a link lives; the provider's time without it.
    pub link_life: Option<Duration>,
    /// What becomes of the links.
    pub link: LinkFate,
    /// How many requests a file answers with 404 first.
    pub not_ready: u32,
    /// What becomes of the submission.
    pub submit: SubmitFate,
    /// `RelayDance`'s shape; the configured one without it.
    pub shape: Option<Shape>,
    /// How the files are served badly.
    pub fault: Option<Fault>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            outcome: Outcome::default(),
            delay: Duration::from_millis(500),
            callback: CallbackFate::default(),
            deliveries: 1,
            pace: Pace::default(),
            order: Order::default(),
            answer: Answer::default(),
            then: Then::default(),
            size: None,
            videos: 1,
            link_life: None,
            link: LinkFate::default(),
            not_ready: 0,
            submit: SubmitFate::default(),
            shape: None,
            fault: None,
        }
    }
}

/// A script that cannot be followed. Its text goes into the refusal of the submission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// There is no such key.
    #[error("simulate: unknown key {0:?}")]
    UnknownKey(String),
    /// The key does not take this value.
    #[error("simulate: {key} cannot be {value:?}")]
    Value {
        /// The key.
        key: String,
        /// What it was given.
        value: String,
    },
    /// The closing bracket is missing.
    #[error("simulate: no closing bracket")]
    Open,
}

const MARK: &str = "[simulate";

impl Script {
    /// Applies the scripts found in any string of `body`, in order, on top of `self`.
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

    /// Applies the scripts found in a text.
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
            "early" => self.answer = Answer::AfterCallback,
            "spaced" => self.pace = Pace::Spaced,
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
            "delay" => self.delay = seconds()?,
            "link_life" => self.link_life = Some(seconds()?),
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
    fn a_text_without_a_script_changes_nothing() {
        assert_eq!(script("a cat [in a box]"), Ok(Script::default()));
    }

    #[test]
    fn keys_and_flags_are_read_anywhere_in_the_body() {
        let read = script(
            "a cat [simulate outcome=moderated delay=0.25 deliveries=3 spaced early order=late_processing size=1000 \
             videos=2 link=dead link_life=1.5 not_ready=2 submit=error500 then=succeed callback=lose_final shape=c] runs",
        )
        .expect("all keys are known");
        assert_eq!(
            read,
            Script {
                outcome: Outcome::Moderated,
                delay: Duration::from_millis(250),
                callback: CallbackFate::LoseFinal,
                deliveries: 3,
                pace: Pace::Spaced,
                order: Order::LateProcessing,
                answer: Answer::AfterCallback,
                then: Then::Succeed,
                size: Some(1000),
                videos: 2,
                link_life: Some(Duration::from_millis(1500)),
                link: LinkFate::Dead,
                not_ready: 2,
                submit: SubmitFate::Error500,
                shape: Some(Shape::C),
                fault: None,
            }
        );
    }

    #[test]
    fn what_is_not_known_is_said() {
        assert_eq!(script("[simulate colour=red]"), Err(ScriptError::UnknownKey("colour".to_owned())));
        assert_eq!(script("[simulate quickly]"), Err(ScriptError::UnknownKey("quickly".to_owned())));
        assert_eq!(script("[simulate delay=1"), Err(ScriptError::Open));
        for wrong in ["delay=-1", "delay=soon", "outcome=maybe", "videos=0", "deliveries=", "fault=odd", "at=x"] {
            assert!(matches!(script(&format!("[simulate {wrong}]")), Err(ScriptError::Value { .. })), "{wrong}");
        }
    }

    #[test]
    fn two_scripts_add_up() {
        let read = script("[simulate delay=1] and [simulate deliveries=2]").expect("both are known");
        assert_eq!((read.delay, read.deliveries), (Duration::from_secs(1), 2));
    }
}
