//! The providers and their dialects.

use strum::{EnumCount, VariantArray};

/// A simulated provider.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::Display,
    strum::EnumCount,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "lowercase")]
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
    /// Replicate.
    Replicate,
    /// `WaveSpeed` AI.
    WaveSpeed,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; Self::COUNT] = match Self::VARIANTS.first_chunk() {
        Some(all) => *all,
        None => unreachable!(),
    };

    /// Its name, which is also its path prefix.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The path of its documented base URL, after [`Self::name`]. Three providers include a version in it.
    pub const fn base_path(self) -> &'static str {
        match self {
            Self::ApiMart | Self::RelayDance => "/v1",
            Self::Ark => "/api/v3",
            _ => "",
        }
    }

    /// The scheme of the `Authorization` header.
    pub(crate) const fn scheme(self) -> &'static str {
        match self {
            Self::Vidu => "Token",
            _ => "Bearer",
        }
    }
}

/// The response shapes seen in New API deployments such as `RelayDance`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Flat, as documented.
    #[default]
    A,
    /// New API's "`OpenAI` video" object.
    B,
    /// New API's wrapped record.
    C,
    /// The documented responses, but callbacks come from Ark itself, with Ark's id.
    D,
}

/// The upstream that APIMP forwards a task to, chosen by its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Upstream {
    Kling,
    Ark,
    MiniMax,
    Vidu,
    /// A model without callbacks.
    Silent,
}

/// A provider, and the variant of its API that a task was submitted through.
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
    Replicate,
    WaveSpeed,
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
            Self::Replicate => Provider::Replicate,
            Self::WaveSpeed => Provider::WaveSpeed,
        }
    }

    /// The dialect of the callbacks: the upstream's if the provider only forwards the callback URL.
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
