//! Failure tables: which [`Reason`] a provider's codes and messages mean, and whether a retry can help.
//!
//! Every adapter has its own table. Phrases that mean the same everywhere come after it, because half of the providers
//! explain a failed task in free text only.

use crate::report::{Failure, Reason};

/// The failure that an HTTP status means when the body says nothing more.
pub fn failure_of_http_status(status: u16) -> Failure {
    let (reason, retryable) = match status {
        402 => (Reason::InsufficientCredits, false),
        408 | 504 => (Reason::Timeout, true),
        429 => (Reason::RateLimited, true),
        451 => (Reason::ContentModeration, false),
        400 | 404 | 405 | 409 | 413 | 415 | 422 => (Reason::InvalidParameters, false),
        500.. => (Reason::ProviderError, true),
        // 401 and 403 among others: about the key, not about the task.
        _ => (Reason::Unknown, false),
    };
    Failure::new(reason, retryable).code(status.to_string())
}

/// A row of a table. The first matching row decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    code: Code,
    /// Part of `{code} {message}` in lower case, with spaces for underscores. Empty where the code alone decides.
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

    /// The same row, but submitting again can help.
    pub(super) const fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The same row, but only if these words occur too.
    pub(super) const fn with_words(mut self, words: &'static str) -> Self {
        self.words = words;
        self
    }

    /// Whether the row matches this code, in any case, and these words, in lower case.
    fn matches(&self, code: &str, words: &str) -> bool {
        let lower = str::to_ascii_lowercase;
        let code_matches = match self.code {
            Code::Any => true,
            Code::Is(expected) => code.eq_ignore_ascii_case(expected),
            Code::Begins(expected) => lower(code).starts_with(&lower(expected)),
            Code::Contains(expected) => lower(code).contains(&lower(expected)),
        };
        code_matches && words.contains(self.words)
    }
}

/// A row for a code.
pub(super) const fn code(code: &'static str, reason: Reason) -> Rule {
    Rule::new(Code::Is(code), "", reason)
}

/// A row for all codes with this prefix.
pub(super) const fn prefix(prefix: &'static str, reason: Reason) -> Rule {
    Rule::new(Code::Begins(prefix), "", reason)
}

/// A row for all codes that contain this.
pub(super) const fn part(part: &'static str, reason: Reason) -> Rule {
    Rule::new(Code::Contains(part), "", reason)
}

/// A row for words in code or message, in lower case.
pub(super) const fn words(words: &'static str, reason: Reason) -> Rule {
    Rule::new(Code::Any, words, reason)
}

/// Words that mean the same everywhere and take precedence over HTTP-like codes: providers report moderation under 400 and
/// 500 alike.
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

/// Words that decide only where no code does.
const VAGUE_WORDS: &[Rule] = &[
    // About the key, not the task; before "invalid" below makes it the task's fault.
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
    /// Rows that come before [`CLEAR_WORDS`].
    pub(super) rules: &'static [Rule],
    /// Rows that come after them: codes that are too broad to decide before the message does.
    pub(super) later: &'static [Rule],
    /// The reason of a failed task that no row and no words match.
    pub(super) otherwise: (Reason, Retry),
}

/// Whether submitting the same task again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    Helps,
    IsPointless,
}

impl Failures {
    /// Whether a row is about this code.
    pub(super) fn knows(&self, code: &str) -> bool {
        self.rules.iter().any(|rule| !matches!(rule.code, Code::Any) && Rule { words: "", ..*rule }.matches(code, ""))
    }

    /// The failure of a failed task.
    pub(super) fn of_task(&self, code: Option<String>, message: Option<String>) -> Failure {
        self.classify(code, message, None)
    }

    /// The failure in an error response. Its HTTP status decides where code and message do not.
    pub(super) fn of_response(&self, status: u16, code: Option<String>, message: Option<String>) -> Failure {
        self.classify(code, message, Some(status))
    }

    fn classify(&self, code: Option<String>, message: Option<String>, status: Option<u16>) -> Failure {
        let (code, message) = (code.unwrap_or_default(), message.unwrap_or_default());
        let words = format!("{code} {message}").to_lowercase().replace('_', " ");
        let find = |rules: &[Rule]| {
            rules.iter().find(|rule| rule.matches(&code, &words)).map(|rule| (rule.reason, rule.retryable))
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
    /// Panics for a row that can never match, because an earlier row always matches first.
    pub(super) fn assert_every_row_is_reachable(&self) {
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
            let first = rules.iter().position(|candidate| candidate.matches(&code, &words));
            assert_eq!(first, Some(position), "{rule:?}");
            let failure = self.of_task(Some(code), Some(rule.words.to_owned()));
            assert_eq!((failure.reason, failure.retryable), (rule.reason, rule.retryable), "{rule:?}");
        }
    }
}
