//! Every conditional write of the table, as a value: a condition and effects in a small typed expression. `reelhook-aws`
//! renders it to `DynamoDB`; [`Transition::evaluate`] runs the same value on an item in memory. A test sends random items
//! through both and finds no difference.
//!
//! | module | transitions |
//! |---|---|
//! | [`submissions`] | from nothing to a task that is known and pollable |
//! | [`reports`] | what callbacks and status polls say about a task |
//! | [`leases`] | who works on a task, and when to look at it again |
//! | [`ownership`] | which task a provider task belongs to |

pub mod leases;
pub mod ownership;
pub mod reports;
pub mod submissions;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use crate::item::{Attribute, Item, Value};
use crate::record::{Record, State};
use crate::task::TaskKey;

/// One conditional write to one item.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// What is being done, for errors: "recording the report".
    pub action: &'static str,
    /// The item's key.
    pub task: TaskKey,
    /// When it may be done. Otherwise nothing is written, and the item that stood in the way comes back.
    pub condition: Condition,
    /// What is written.
    pub write: Write,
}

/// What a transition writes.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Makes or changes the item. No two effects name the same attribute.
    Update(Vec<Effect>),
    /// Removes the item.
    Delete,
}

/// A condition over an item, or over there being none.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// The attribute has a value. [`Attribute::Task`]: there is an item.
    Has(Attribute),
    /// The attribute has no value. [`Attribute::Task`]: there is no item.
    Lacks(Attribute),
    /// The attribute has this very value.
    Is(Attribute, Value),
    /// The attribute is a number and at most this one.
    AtMost(Attribute, i64),
    /// All of these hold.
    All(Vec<Condition>),
    /// At least one of these holds.
    Any(Vec<Condition>),
}

/// A change of one attribute. Computed from the item as it was before the write.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Sets a value.
    Set(Attribute, Value),
    /// Sets a value where there is none.
    SetOnce(Attribute, Value),
    /// Adds one; a number that is absent counts as 0.
    Increment(Attribute),
    /// Removes the value.
    Remove(Attribute),
}

/// What a transition did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied<T> {
    /// The condition held. The item as it is now; none after a deletion.
    Done(Option<T>),
    /// It did not. The item that stood in the way, if there is one.
    Refused(Option<T>),
}

impl Condition {
    /// The state is one of these.
    pub fn state_in(states: &[State]) -> Self {
        Self::one_of(Attribute::State, states.iter().map(|state| Value::from(*state)))
    }

    /// The attribute has one of these values.
    pub fn one_of(attribute: Attribute, values: impl IntoIterator<Item = Value>) -> Self {
        Self::Any(values.into_iter().map(|value| Self::Is(attribute, value)).collect())
    }

    /// Nothing was said about the task from outside since the record was read.
    pub fn unrevised(record: &Record) -> Self {
        match record.revision {
            // It is absent until it is raised to 1.
            0 => Self::Lacks(Attribute::Revision),
            revision => Self::Is(Attribute::Revision, revision.into()),
        }
    }

    /// The record's claim is still the latest.
    pub fn still_claimed(record: &Record) -> Self {
        Self::Is(Attribute::FencingToken, record.fencing_token.into())
    }

    /// Nobody has claimed it since it was read.
    pub fn unclaimed_since(record: &Record) -> Self {
        if record.fencing_token == 0 { Self::Lacks(Attribute::FencingToken) } else { Self::still_claimed(record) }
    }

    /// Whether it holds for an item.
    pub fn holds(&self, item: Option<&Item>) -> bool {
        let value = |attribute: &Attribute| item.and_then(|item| item.get(attribute));
        match self {
            Self::Has(attribute) => value(attribute).is_some(),
            Self::Lacks(attribute) => value(attribute).is_none(),
            Self::Is(attribute, expected) => value(attribute) == Some(expected),
            Self::AtMost(attribute, most) => matches!(value(attribute), Some(Value::Number(number)) if number <= most),
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(item)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.holds(item)),
        }
    }
}

impl Effect {
    /// Sets a value where one is given.
    pub fn set_some(attribute: Attribute, value: Option<impl Into<Value>>) -> Option<Self> {
        value.map(|value| Self::Set(attribute, value.into()))
    }

    /// Sets a value where one is given and there is none yet.
    pub fn set_once_some(attribute: Attribute, value: Option<impl Into<Value>>) -> Option<Self> {
        value.map(|value| Self::SetOnce(attribute, value.into()))
    }

    /// The attribute it changes.
    pub fn attribute(&self) -> Attribute {
        match self {
            Self::Set(attribute, _)
            | Self::SetOnce(attribute, _)
            | Self::Increment(attribute)
            | Self::Remove(attribute) => *attribute,
        }
    }

    fn apply(&self, item: &mut Item) {
        match self {
            Self::Set(attribute, value) => {
                item.insert(*attribute, value.clone());
            }
            Self::SetOnce(attribute, value) => {
                item.entry(*attribute).or_insert_with(|| value.clone());
            }
            Self::Increment(attribute) => {
                let entry = item.entry(*attribute).or_insert(Value::Number(0));
                if let Value::Number(number) = entry {
                    *number += 1;
                }
            }
            Self::Remove(attribute) => {
                item.remove(attribute);
            }
        }
    }
}

impl Transition {
    /// Runs the transition on an item in memory, as `DynamoDB` does on the stored one.
    pub fn evaluate(&self, item: Option<Item>) -> Applied<Item> {
        if !self.condition.holds(item.as_ref()) {
            return Applied::Refused(item);
        }
        match &self.write {
            Write::Delete => Applied::Done(None),
            Write::Update(effects) => {
                let mut item = item.unwrap_or_default();
                item.insert(Attribute::Task, Value::Text(self.task.to_string()));
                // One after the other is the same as all at once: no two name the same attribute, and none reads another's.
                for effect in effects {
                    effect.apply(&mut item);
                }
                Applied::Done(Some(item))
            }
        }
    }
}
