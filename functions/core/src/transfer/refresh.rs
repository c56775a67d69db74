//! Whether the provider has another link for a file. A provider that cannot be reached has not said no.

use crate::report::{Artifact, Failure, Reason};

/// What came of requesting another link from the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The provider gave this one just now.
    Fresh(Artifact),
    /// The provider has no other: it said so, or gave the same link again. Without credentials there is
    /// nobody to request one from.
    NoOtherLink,
    /// The provider said nothing about the file: it was not reached, timed out, refused the key, limited the rate or failed
    /// itself. It may have another link.
    NoResponse,
}

impl Refreshed {
    /// What a refusal of the provider's call that makes links says. Only what speaks of the file itself is a no; the rest is
    /// about the key, the account, the rate or the provider. `status` is the HTTP status.
    pub fn in_refusal(status: u16, failure: &Failure) -> Self {
        match (status, failure.reason) {
            (401 | 403 | 407 | 408 | 425 | 429 | 500.., _) => Self::NoResponse,
            (_, Reason::InvalidParameters | Reason::ContentModeration | Reason::Expired | Reason::Cancelled) => {
                Self::NoOtherLink
            }
            _ => Self::NoResponse,
        }
    }

    /// With [`Self::NoOtherLink`] for the link that is held already.
    #[must_use]
    pub fn unless_held(self, held: &Artifact) -> Self {
        match self {
            Self::Fresh(artifact) if artifact.source == held.source => Self::NoOtherLink,
            refreshed => refreshed,
        }
    }

    /// The first of two ways to a link that gave one. A way that got no response may still lead there, so it outweighs a no.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Fresh(artifact), _) | (_, Self::Fresh(artifact)) => Self::Fresh(artifact),
            (Self::NoResponse, _) | (_, Self::NoResponse) => Self::NoResponse,
            (Self::NoOtherLink, Self::NoOtherLink) => Self::NoOtherLink,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redacted::SignedUrl;
    use crate::report::{Kind, Source};

    fn video(link: &str) -> Artifact {
        Artifact { kind: Kind::Video, source: Source::Url(SignedUrl::new(link)), expires_at: None }
    }

    #[test]
    fn only_a_refusal_about_the_file_is_a_no() {
        for (story, status, reason, expected) in [
            ("the file is unknown", 404, Reason::InvalidParameters, Refreshed::NoOtherLink),
            ("the file has expired", 200, Reason::Expired, Refreshed::NoOtherLink),
            ("the key is refused", 401, Reason::Unknown, Refreshed::NoResponse),
            ("the key is refused under 200", 200, Reason::Unknown, Refreshed::NoResponse),
            ("no credits", 402, Reason::InsufficientCredits, Refreshed::NoResponse),
            ("too many requests", 429, Reason::RateLimited, Refreshed::NoResponse),
            ("too many requests under 200", 200, Reason::RateLimited, Refreshed::NoResponse),
            ("an outage", 503, Reason::ProviderError, Refreshed::NoResponse),
            ("an outage whose body blames the parameters", 500, Reason::InvalidParameters, Refreshed::NoResponse),
        ] {
            assert_eq!(Refreshed::in_refusal(status, &Failure::new(reason, false)), expected, "{story}");
        }
    }

    #[test]
    fn of_two_ways_to_a_link_silence_outweighs_a_no() {
        let fresh = || Refreshed::Fresh(video("https://b/1"));
        assert_eq!(Refreshed::NoResponse.or(fresh()), fresh());
        assert_eq!(Refreshed::NoOtherLink.or(Refreshed::NoResponse), Refreshed::NoResponse);
        assert_eq!(Refreshed::NoResponse.or(Refreshed::NoOtherLink), Refreshed::NoResponse);
        assert_eq!(Refreshed::NoOtherLink.or(Refreshed::NoOtherLink), Refreshed::NoOtherLink);
    }
}
