//! What a task cost, as its provider says. Nothing is computed from a price list, and nothing converted.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// Longest name of a currency that is kept, in characters. ISO 4217 has 3; chosen freely above that.
const MAX_CURRENCY: usize = 8;

/// What a task cost. A provider gives one or two of these, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Credits, points or units of the provider's own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credits: Option<Number>,
    /// Tokens of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Number>,
    /// Seconds that are charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<Number>,
    /// An amount of money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Number>,
    /// The currency of [`Usage::amount`], where the provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

impl Usage {
    /// Whether the provider said nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Credits of the provider's account.
    pub(crate) fn of_credits(credits: &Value) -> Self {
        Self { credits: number(credits), ..Self::default() }
    }

    /// Tokens of the model.
    pub(crate) fn of_tokens(tokens: &Value) -> Self {
        Self { tokens: number(tokens), ..Self::default() }
    }

    /// The same with seconds.
    #[must_use]
    pub(crate) fn with_seconds(self, seconds: &Value) -> Self {
        Self { seconds: number(seconds), ..self }
    }

    /// The same with an amount of money, in a currency where the provider names one.
    #[must_use]
    pub(crate) fn with_amount(self, amount: &Value, currency: &Value) -> Self {
        let currency = currency.as_str().map(str::trim).filter(|name| (1..=MAX_CURRENCY).contains(&name.len()));
        let amount = number(amount);
        Self { currency: currency.filter(|_| amount.is_some()).map(str::to_owned), amount, ..self }
    }
}

/// A number that is not negative, also when written as text.
fn number(value: &Value) -> Option<Number> {
    let number = match value {
        Value::Number(number) => number.clone(),
        Value::String(text) => serde_json::from_str(text.trim()).ok()?,
        _ => return None,
    };
    number.as_f64().is_some_and(|number| number >= 0.0).then_some(number)
}

/// The sum of numbers that may be written as text. None where there are none. Rounded to six decimals, which providers do not
/// exceed and a sum of binary fractions does.
pub(crate) fn sum<'a>(values: impl IntoIterator<Item = &'a Value>) -> Value {
    let numbers: Vec<Number> = values.into_iter().filter_map(number).collect();
    match &numbers[..] {
        [] => Value::Null,
        [one] => Value::Number(one.clone()),
        several => {
            let sum: f64 = several.iter().filter_map(Number::as_f64).sum();
            ((sum * 1e6).round() / 1e6).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_kept_as_they_are_given() {
        for (given, kept) in [
            (json!(10), json!({"credits": 10})),
            (json!("2.5"), json!({"credits": 2.5})),
            (json!(0), json!({"credits": 0})),
            (json!(-1), json!({})),
            (json!("free"), json!({})),
            (json!(null), json!({})),
        ] {
            assert_eq!(json!(Usage::of_credits(&given)), kept, "{given}");
        }
        assert!(Usage::of_credits(&json!("")).is_empty());
        assert_eq!(sum([&json!("0.1"), &json!(0.2)]), json!(0.3));
        assert_eq!(sum([&json!("7")]), json!(7));
        assert_eq!(sum([]), Value::Null);
    }

    #[test]
    fn a_currency_without_an_amount_says_nothing() {
        let usage = |amount: Value, currency: Value| json!(Usage::default().with_amount(&amount, &currency));
        assert_eq!(usage(json!("0.4"), json!("USD")), json!({"amount": 0.4, "currency": "USD"}));
        assert_eq!(usage(json!(0.4), json!(null)), json!({"amount": 0.4}));
        assert_eq!(usage(json!(null), json!("USD")), json!({}));
    }
}
