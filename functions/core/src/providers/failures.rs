//! Failure tables: what a provider's codes and words mean in the one taxonomy, and whether a retry can help.
//!
//! Every adapter has one table of its own. Behind it stand words that mean the same everywhere, because half of the
//! providers explain a failed task in free text only.

use super::common::failure_of_http_status;
use crate::report::{Failure, Reason};

/// A row of a table. The first row that fits decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    code: Code,
    /// Part of code and message together, in lower case, with spaces for underscores. Empty where the code alone decides.
    words: &'static str,
    reason: Reason,
    retryable: bool,
}

#[derive(Clone, Copy, Debug)]
enum Code {
    Any,
    Is(&'static str),
    Begins(&'static str),
    Contains(&'static str),
}

impl Rule {
    const fn new(code: Code, words: &'static str, reason: Reason) -> Self {
        Self { code, words, reason, retryable: false }
    }

    /// The same, and submitting again can help.
    pub(super) const fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The same, where these words are said too.
    pub(super) const fn with_words(mut self, words: &'static str) -> Self {
        self.words = words;
        self
    }

    /// Whether the row is about this code, in any case, and these words, in lower case.
    fn fits(&self, code: &str, words: &str) -> bool {
        let lower = str::to_ascii_lowercase;
        let code_fits = match self.code {
            Code::Any => true,
            Code::Is(expected) => code.eq_ignore_ascii_case(expected),
            Code::Begins(expected) => lower(code).starts_with(&lower(expected)),
            Code::Contains(expected) => lower(code).contains(&lower(expected)),
        };
        code_fits && words.contains(self.words)
    }
}

/// A row for a code.
pub(super) const fn code(code: &'static str, reason: Reason) -> Rule {
    Rule::new(Code::Is(code), "", reason)
}

/// A row for all codes that begin like this.
pub(super) const fn prefix(prefix: &'static str, reason: Reason) -> Rule {
    Rule::new(Code::Begins(prefix), "", reason)
}

/// A row for all codes that contain this.
pub(super) const fn part(part: &'static str, reason: Reason) -> Rule {
    Rule::new(Code::Contains(part), "", reason)
}

/// A row for words of the provider, in lower case.
pub(super) const fn words(words: &'static str, reason: Reason) -> Rule {
    Rule::new(Code::Any, words, reason)
}

/// Words that mean the same everywhere, and more than a code beside them: providers put moderation under 400 and 500 alike.
const CLEAR_WORDS: &[Rule] = &[
    words("risk control", Reason::ContentModeration),
    words("moderation", Reason::ContentModeration),
    words("sensitive", Reason::ContentModeration),
    words("inappropriate", Reason::ContentModeration),
    words("content policy", Reason::ContentModeration),
    words("content security", Reason::ContentModeration),
    words("policy violation", Reason::ContentModeration),
    words("violat", Reason::ContentModeration),
    words("nsfw", Reason::ContentModeration),
    words("unsafe", Reason::ContentModeration),
    words("prohibited", Reason::ContentModeration),
    words("copyright", Reason::ContentModeration),
    words("content blocked", Reason::ContentModeration),
    words("content rejected", Reason::ContentModeration),
    words("output blocked", Reason::ContentModeration),
    words("input blocked", Reason::ContentModeration),
    words("flagged", Reason::ContentModeration),
    words("safety", Reason::ContentModeration),
    words("审核", Reason::ContentModeration),
    words("违规", Reason::ContentModeration),
    words("敏感", Reason::ContentModeration),
    words("风控", Reason::ContentModeration),
    words("insufficient balance", Reason::InsufficientCredits),
    words("insufficient credit", Reason::InsufficientCredits),
    words("insufficient point", Reason::InsufficientCredits),
    words("insufficient fund", Reason::InsufficientCredits),
    words("insufficient quota", Reason::InsufficientCredits),
    words("insufficient user quota", Reason::InsufficientCredits),
    words("not enough credit", Reason::InsufficientCredits),
    words("credits insufficient", Reason::InsufficientCredits),
    words("quota is not enough", Reason::InsufficientCredits),
    words("balance too low", Reason::InsufficientCredits),
    words("balance is too low", Reason::InsufficientCredits),
    words("balance not enough", Reason::InsufficientCredits),
    words("balance is not enough", Reason::InsufficientCredits),
    words("payment required", Reason::InsufficientCredits),
    words("余额", Reason::InsufficientCredits),
    words("额度不足", Reason::InsufficientCredits),
    words("rate limit", Reason::RateLimited).retryable(),
    words("too many", Reason::RateLimited).retryable(),
    words("concurren", Reason::RateLimited).retryable(),
    words("throttl", Reason::RateLimited).retryable(),
    words("timed out", Reason::Timeout).retryable(),
    words("timeout", Reason::Timeout).retryable(),
    words("cancelled", Reason::Cancelled),
    words("canceled", Reason::Cancelled),
];

/// Words that say something where no code does.
const VAGUE_WORDS: &[Rule] = &[
    // About the key and not about the task, before "invalid" makes it the task's fault.
    words("authentication", Reason::Unknown),
    words("unauthorized", Reason::Unknown),
    words("api key", Reason::Unknown),
    words("invalid token", Reason::Unknown),
    words("invalid", Reason::InvalidParameters),
    words("unsupported", Reason::InvalidParameters),
    words("not supported", Reason::InvalidParameters),
    words("incorrect", Reason::InvalidParameters),
    words("malformed", Reason::InvalidParameters),
    words("bad request", Reason::InvalidParameters),
    words("try again", Reason::ProviderError).retryable(),
    words("internal", Reason::ProviderError).retryable(),
    words("server error", Reason::ProviderError).retryable(),
    words("unavailable", Reason::ProviderError).retryable(),
    words("overloaded", Reason::ProviderError).retryable(),
    words("maintenance", Reason::ProviderError).retryable(),
];

/// The failure table of a provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failures {
    /// Rows that come before the words that mean the same everywhere.
    pub(super) rules: &'static [Rule],
    /// Rows that come after them: codes that stand for too much to decide alone.
    pub(super) later: &'static [Rule],
    /// What a failed task means about which neither the rows nor the words say anything.
    pub(super) otherwise: (Reason, Retry),
}

/// Whether submitting the same again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// It can.
    Helps,
    /// It cannot.
    IsPointless,
}

impl Failures {
    /// Whether a row names this code.
    pub(super) fn knows(&self, code: &str) -> bool {
        self.rules.iter().any(|rule| !matches!(rule.code, Code::Any) && Rule { words: "", ..*rule }.fits(code, ""))
    }

    /// The failure of a task.
    pub(super) fn of_task(&self, code: Option<String>, message: Option<String>) -> Failure {
        self.judge(code, message, None)
    }

    /// The failure that the error body of an answer speaks of; its HTTP status decides where code and words do not.
    pub(super) fn of_answer(&self, status: u16, code: Option<String>, message: Option<String>) -> Failure {
        self.judge(code, message, Some(status))
    }

    fn judge(&self, code: Option<String>, message: Option<String>, status: Option<u16>) -> Failure {
        let (code, message) = (code.unwrap_or_default(), message.unwrap_or_default());
        let words = format!("{code} {message}").to_lowercase().replace('_', " ");
        let find = |rules: &[Rule]| {
            rules.iter().find(|rule| rule.fits(&code, &words)).map(|rule| (rule.reason, rule.retryable))
        };
        let of_status = |status: u16| {
            (400..600).contains(&status).then(|| {
                let failure = failure_of_http_status(status);
                (failure.reason, failure.retryable)
            })
        };
        let (reason, retryable) = find(self.rules)
            .or_else(|| find(CLEAR_WORDS))
            .or_else(|| find(self.later))
            .or_else(|| of_status(code.parse().ok()?))
            .or_else(|| of_status(status?))
            .or_else(|| find(VAGUE_WORDS))
            .unwrap_or(match status {
                None => (self.otherwise.0, self.otherwise.1 == Retry::Helps),
                Some(_) => (Reason::Unknown, false),
            });
        let code = match status {
            Some(status @ 400..) if code.is_empty() => status.to_string(),
            _ => code,
        };
        Failure::new(reason, retryable).code(code).message(message)
    }
}

#[cfg(test)]
impl Failures {
    /// Fails for a row that no body can reach, because a row before it takes all that would fit.
    pub(super) fn assert_that_every_row_is_reached(&self) {
        for (rules, position) in [self.rules, self.later]
            .into_iter()
            .flat_map(|rules| (0..rules.len()).map(move |position| (rules, position)))
        {
            let rule = rules[position];
            let code = match rule.code {
                Code::Any => String::new(),
                Code::Is(code) => code.to_owned(),
                Code::Begins(code) => format!("{code}.More"),
                Code::Contains(code) => format!("Some{code}More"),
            };
            let words = format!("{code} {}", rule.words).to_lowercase().replace('_', " ");
            let first = rules.iter().position(|candidate| candidate.fits(&code, &words));
            assert_eq!(first, Some(position), "{rule:?}");
            let failure = self.of_task(Some(code), Some(rule.words.to_owned()));
            assert_eq!((failure.reason, failure.retryable), (rule.reason, rule.retryable), "{rule:?}");
        }
    }
}
