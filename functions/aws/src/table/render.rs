//! A transition as `DynamoDB` takes it, and items in both forms.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use reelhook_core::item::{Attribute, Item, Value};
use reelhook_core::transition::{Condition, Effect};

/// An item as the SDK has it.
pub(super) type StoredItem = HashMap<String, AttributeValue>;

/// The expressions of one call, with the names and values they mention. Every attribute goes by `#name`: `state` and a few
/// others are reserved words of the expression language.
#[derive(Debug)]
pub(super) struct Expressions {
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Default for Expressions {
    /// With room for the largest transition, so that the maps need not grow.
    fn default() -> Self {
        Self { names: HashMap::with_capacity(28), values: HashMap::with_capacity(28) }
    }
}

impl Expressions {
    fn name(&mut self, attribute: Attribute) -> String {
        let name: &'static str = attribute.into();
        let placeholder = ["#", name].concat();
        self.names.insert(placeholder.clone(), name.to_owned());
        placeholder
    }

    fn value(&mut self, value: &Value) -> String {
        let placeholder = format!(":{}", self.values.len());
        self.values.insert(placeholder.clone(), stored_value(value));
        placeholder
    }

    /// The condition expression.
    pub(super) fn condition(&mut self, condition: &Condition) -> String {
        match without_lists_of_one(condition) {
            Condition::Has(attribute) => format!("attribute_exists({})", self.name(*attribute)),
            Condition::Lacks(attribute) => format!("attribute_not_exists({})", self.name(*attribute)),
            Condition::Is(attribute, value) => format!("{} = {}", self.name(*attribute), self.value(value)),
            Condition::AtMost(attribute, most) => {
                format!("{} <= {}", self.name(*attribute), self.value(&Value::Number(*most)))
            }
            Condition::All(conditions) => self.joined(conditions, " AND "),
            Condition::Any(conditions) => self.joined(conditions, " OR "),
        }
    }

    /// Lists within a list stand in parentheses; `DynamoDB` refuses an expression with redundant ones.
    fn joined(&mut self, conditions: &[Condition], operator: &str) -> String {
        let parts: Vec<String> = conditions
            .iter()
            .map(|condition| match without_lists_of_one(condition) {
                list @ (Condition::All(_) | Condition::Any(_)) => format!("({})", self.condition(list)),
                other => self.condition(other),
            })
            .collect();
        parts.join(operator)
    }

    /// The update expression.
    pub(super) fn update<'a>(&mut self, effects: impl Iterator<Item = &'a Effect>) -> String {
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for effect in effects {
            let name = self.name(effect.attribute());
            match effect {
                Effect::Set(_, value) => set.push(format!("{name} = {}", self.value(value))),
                Effect::SetOnce(_, value) => set.push(format!("{name} = if_not_exists({name}, {})", self.value(value))),
                Effect::Increment(_) => {
                    let (zero, one) = (self.value(&Value::Number(0)), self.value(&Value::Number(1)));
                    set.push(format!("{name} = if_not_exists({name}, {zero}) + {one}"));
                }
                Effect::Remove(_) => remove.push(name),
            }
        }
        let clause = |verb: &str, parts: &[String]| {
            if parts.is_empty() { String::new() } else { format!("{verb} {}", parts.join(", ")) }
        };
        [clause("SET", &set), clause("REMOVE", &remove)].join(" ").trim().to_owned()
    }
}

/// A list of one condition is that condition.
fn without_lists_of_one(mut condition: &Condition) -> &Condition {
    while let Condition::All(list) | Condition::Any(list) = condition
        && let [only] = list.as_slice()
    {
        condition = only;
    }
    condition
}

pub(super) fn stored_value(value: &Value) -> AttributeValue {
    match value {
        Value::Text(text) => AttributeValue::S(text.clone()),
        Value::Number(number) => AttributeValue::N(number.to_string()),
    }
}

/// An item as the rules know it. Attributes of another release are passed over.
pub(super) fn item(stored: StoredItem) -> Item {
    stored
        .into_iter()
        .filter_map(|(name, value)| {
            let value = match value {
                AttributeValue::S(text) => Value::Text(text),
                AttributeValue::N(digits) => Value::Number(digits.parse().ok()?),
                _ => return None,
            };
            Some((name.parse().ok()?, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_the_parentheses_they_need_and_no_others() {
        use Condition::{All, Any, Has, Lacks};
        let (a, b, c) = (Has(Attribute::DueAt), Lacks(Attribute::State), Has(Attribute::Task));
        for (condition, expected) in [
            (a.clone(), "attribute_exists(#due_at)"),
            (Any(vec![All(vec![a.clone()])]), "attribute_exists(#due_at)"),
            (
                All(vec![a.clone(), Any(vec![b.clone(), c.clone()])]),
                "attribute_exists(#due_at) AND (attribute_not_exists(#state) OR attribute_exists(#task))",
            ),
            (
                All(vec![Any(vec![Any(vec![b.clone(), c.clone()])]), a.clone()]),
                "(attribute_not_exists(#state) OR attribute_exists(#task)) AND attribute_exists(#due_at)",
            ),
            (Any(vec![All(vec![b, c])]), "attribute_not_exists(#state) AND attribute_exists(#task)"),
            (All(vec![a.clone(), Any(vec![a])]), "attribute_exists(#due_at) AND attribute_exists(#due_at)"),
        ] {
            assert_eq!(Expressions::default().condition(&condition), expected);
        }
    }
}
