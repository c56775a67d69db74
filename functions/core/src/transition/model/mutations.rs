//! Mutants of the transitions: each leaves out one condition or one effect. They are made by walking the real transitions as
//! they are met, so that a condition that is new is left out as well.

use std::fmt;

use crate::item::{Attribute, Value};
use crate::transition::{Condition, Effect, Transition, Write};

/// Something that can be left out of a transition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// The constructor of the transition.
    pub(super) transition: &'static str,
    /// What is left out there.
    pub(super) part: Part,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// A condition, with all that it is part of.
    Condition(String),
    /// An effect.
    Effect(String),
}

/// A transition without one of its parts.
#[derive(Clone, Debug)]
pub(super) struct Mutant {
    pub(super) place: Place,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Condition(part) | Self::Effect(part)) = self;
        formatter.write_str(part)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.transition, self.part)
    }
}

impl Place {
    /// Everything that can be left out of a transition.
    pub(super) fn all_of(constructor: &'static str, transition: &Transition) -> Vec<Self> {
        let mut parts = vec![];
        collect(&root(&transition.condition), "", &mut parts);
        let mut parts: Vec<_> = parts.into_iter().map(Part::Condition).collect();
        if let Write::Update(effects) = &transition.write {
            parts.extend(effects.iter().map(|effect| Part::Effect(effect_name(effect))));
        }
        parts.into_iter().map(|part| Self { transition: constructor, part }).collect()
    }
}

impl Mutant {
    pub(super) fn applied_to(&self, real: &Transition) -> Transition {
        let mut mutated = real.clone();
        match &self.place.part {
            Part::Condition(dropped) => mutated.condition = without(&root(&real.condition), "", dropped),
            Part::Effect(dropped) => {
                if let Write::Update(effects) = &mut mutated.write {
                    effects.retain(|effect| effect_name(effect) != *dropped);
                }
            }
        }
        mutated
    }
}

/// The condition as one of which parts can be left out.
fn root(condition: &Condition) -> Condition {
    match condition {
        Condition::All(_) => condition.clone(),
        _ => Condition::All(vec![condition.clone()]),
    }
}

fn collect(condition: &Condition, prefix: &str, parts: &mut Vec<String>) {
    let (Condition::All(inner) | Condition::Any(inner)) = condition else { return };
    for part in inner {
        let path = path(prefix, part);
        collect(part, &path, parts);
        parts.push(path);
    }
}

fn without(condition: &Condition, prefix: &str, dropped: &str) -> Condition {
    let left = |inner: &[Condition]| {
        let kept = inner.iter().filter(|part| path(prefix, part) != dropped);
        kept.map(|part| without(part, &path(prefix, part), dropped)).collect()
    };
    match condition {
        Condition::All(inner) => Condition::All(left(inner)),
        Condition::Any(inner) => Condition::Any(left(inner)),
        leaf => leaf.clone(),
    }
}

fn path(prefix: &str, condition: &Condition) -> String {
    if prefix.is_empty() { name(condition) } else { format!("{} in {prefix}", name(condition)) }
}

/// A condition without its numbers, which differ from record to record. A composite one is named after its first attribute.
fn name(condition: &Condition) -> String {
    match condition {
        // A revision of 0 is absent.
        Condition::Lacks(Attribute::Revision) | Condition::Is(Attribute::Revision, _) => "revision as read".to_owned(),
        Condition::Is(Attribute::ProviderTaskId, _) => "the same provider_task_id".to_owned(),
        Condition::Has(attribute) => format!("has {attribute}"),
        Condition::Lacks(attribute) => format!("no {attribute}"),
        Condition::Is(attribute, Value::Text(text)) => format!("{attribute} is {text}"),
        Condition::Is(attribute, Value::Number(_)) => format!("{attribute} as read"),
        Condition::AtMost(attribute, _) => format!("{attribute} is over"),
        Condition::All(_) => format!("all about {}", attribute(condition)),
        Condition::Any(_) => format!("any about {}", attribute(condition)),
    }
}

/// The attribute that comes first in it.
fn attribute(condition: &Condition) -> String {
    fn first(condition: &Condition) -> Option<Attribute> {
        match condition {
            Condition::Has(attribute)
            | Condition::Lacks(attribute)
            | Condition::Is(attribute, _)
            | Condition::AtMost(attribute, _) => Some(*attribute),
            Condition::All(inner) | Condition::Any(inner) => first(inner.first()?),
        }
    }
    first(condition).map_or_else(String::new, |attribute| attribute.to_string())
}

fn effect_name(effect: &Effect) -> String {
    match effect {
        Effect::Set(attribute, _) => format!("set {attribute}"),
        Effect::SetOnce(attribute, _) => format!("set {attribute} once"),
        Effect::Increment(attribute) => format!("raise {attribute}"),
        Effect::Remove(attribute) => format!("remove {attribute}"),
    }
}
