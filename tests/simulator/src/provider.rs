//! The nine providers and their dialects.

use std::{fmt, str::FromStr};

/// A provider that the simulator stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provider {
    /// Kling, both API generations.
    Kling,
    /// `MaxAPI`.
    MaxApi,
    /// `APIMart`.
    ApiMart,
    /// Volcengine Ark and `BytePlus` `ModelArk` (Doubao, Seedance).
    Ark,
    /// `MiniMax` Hailuo, both API generations.
    MiniMax,
    /// Vidu.
    Vidu,
    /// KIE: Runway, Veo and Market.
    Kie,
    /// APIMP, whose callbacks come from its upstreams.
    Apimp,
    /// `RelayDance`.
    RelayDance,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Kling,
        Self::MaxApi,
        Self::ApiMart,
        Self::Ark,
        Self::MiniMax,
        Self::Vidu,
        Self::Kie,
        Self::Apimp,
        Self::RelayDance,
    ];

    /// The name it is mounted under.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kling => "kling",
            Self::MaxApi => "maxapi",
            Self::ApiMart => "apimart",
            Self::Ark => "ark",
            Self::MiniMax => "minimax",
            Self::Vidu => "vidu",
            Self::Kie => "kie",
            Self::Apimp => "apimp",
            Self::RelayDance => "relaydance",
        }
    }

    /// The path of its documented base URL behind [`Self::name`]: three of them count a version to the base.
    pub const fn base_path(self) -> &'static str {
        match self {
            Self::ApiMart | Self::RelayDance => "/v1",
            Self::Ark => "/api/v3",
            _ => "",
        }
    }

    /// The word in front of the key in the `Authorization` header.
    pub(crate) const fn scheme(self) -> &'static str {
        match self {
            Self::Vidu => "Token",
            _ => "Bearer",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// There is no such provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no provider is called {0:?}")]
pub struct UnknownProvider(String);

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|provider| provider.name() == name).ok_or_else(|| UnknownProvider(name.to_owned()))
    }
}

/// The shapes in which a New API deployment such as `RelayDance` is seen to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Flat, as documented.
    #[default]
    A,
    /// New API's "`OpenAI` video" object.
    B,
    /// New API's wrapped record.
    C,
    /// Documented answers, but the callback comes from Ark itself, with Ark's id.
    D,
}

/// The upstream to which APIMP hands a task, told by the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Upstream {
    Kling,
    Ark,
    MiniMax,
    Vidu,
    /// A model for which APIMP has no callback.
    Silent,
}

/// A provider together with the variant of its API that a task was made through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    KlingNew,
    KlingLegacy,
    MaxApi,
    ApiMart,
    Ark,
    MiniMaxFirst,
    MiniMaxSecond,
    Vidu,
    KieRunway,
    KieVeo,
    KieMarket,
    Apimp(Upstream),
    RelayDance(Shape),
}

impl Dialect {
    pub(crate) const fn provider(self) -> Provider {
        match self {
            Self::KlingNew | Self::KlingLegacy => Provider::Kling,
            Self::MaxApi => Provider::MaxApi,
            Self::ApiMart => Provider::ApiMart,
            Self::Ark => Provider::Ark,
            Self::MiniMaxFirst | Self::MiniMaxSecond => Provider::MiniMax,
            Self::Vidu => Provider::Vidu,
            Self::KieRunway | Self::KieVeo | Self::KieMarket => Provider::Kie,
            Self::Apimp(_) => Provider::Apimp,
            Self::RelayDance(_) => Provider::RelayDance,
        }
    }

    /// The dialect that the callback is written in: that of the upstream where the provider only hands the URL on.
    pub(crate) const fn of_callback(self) -> Self {
        match self {
            Self::Apimp(Upstream::Kling) => Self::KlingLegacy,
            Self::Apimp(Upstream::Ark) | Self::RelayDance(Shape::D) => Self::Ark,
            Self::Apimp(Upstream::MiniMax) => Self::MiniMaxFirst,
            Self::Apimp(Upstream::Vidu) => Self::Vidu,
            other => other,
        }
    }
}
