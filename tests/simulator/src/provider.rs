//! The providers and their dialects.

use strum::{EnumCount, VariantArray};

use crate::{
    api::{Api, Profile},
    example::Example,
    providers::{self, kie, kling, minimax},
    record::Phase,
    script::Outcome,
};

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
    /// fal.
    Fal,
    /// Runway.
    Runway,
    /// Grok Imagine (xAI).
    Grok,
    /// `OpenRouter`.
    OpenRouter,
    /// Alibaba Wan, by `DashScope`.
    Wan,
    /// Google Veo over the Gemini API.
    Veo,
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

    /// The path of its documented base URL, after [`Self::name`].
    pub fn base_path(self) -> &'static str {
        self.profile().base_path
    }

    /// What its signatures cover.
    pub fn signs(self) -> Signs {
        self.profile().signs
    }

    /// The customer that its signatures are about, where its key signs for several.
    pub fn account_id(self) -> Option<&'static str> {
        self.profile().account_id
    }

    /// Whether it sends callbacks. If not, its tasks can only be polled.
    pub fn calls_back(self) -> bool {
        self.profile().calls_back
    }

    /// Whether it sends a callback about a task that ends like this.
    pub fn calls_back_about(self, outcome: Outcome) -> bool {
        self.calls_back() && self.profile().api.sender().is_pushed(Phase::Final(outcome))
    }

    /// The URL that it posts callbacks to, for the callback URL of a submission.
    pub fn target(self, callback_url: &str) -> String {
        self.profile().api.target(callback_url)
    }

    /// Calls of its APIs, and what comes of them.
    ///
    /// # Panics
    ///
    /// If it has none.
    pub fn examples(self) -> Vec<Example> {
        let examples = (self.profile().examples)();
        assert!(!examples.is_empty(), "{self} has no example of a call");
        examples
    }

    pub(crate) fn profile(self) -> &'static Profile {
        match self {
            Self::Kling => &providers::kling::PROFILE,
            Self::MaxApi => &providers::maxapi::PROFILE,
            Self::ApiMart => &providers::apimart::PROFILE,
            Self::Ark => &providers::ark::PROFILE,
            Self::MiniMax => &providers::minimax::PROFILE,
            Self::Vidu => &providers::vidu::PROFILE,
            Self::Kie => &providers::kie::PROFILE,
            Self::Apimp => &providers::apimp::PROFILE,
            Self::RelayDance => &providers::relaydance::PROFILE,
            Self::Replicate => &providers::replicate::PROFILE,
            Self::WaveSpeed => &providers::wavespeed::PROFILE,
            Self::Fal => &providers::fal::PROFILE,
            Self::Runway => &providers::runway::PROFILE,
            Self::Grok => &providers::grok::PROFILE,
            Self::OpenRouter => &providers::openrouter::PROFILE,
            Self::Wan => &providers::wan::PROFILE,
            Self::Veo => &providers::veo::PROFILE,
        }
    }
}

/// What the signature of a callback covers. Each covers more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signs {
    /// There is none.
    Nothing,
    /// The request, but nothing of the body: it proves the sender.
    Sender,
    /// The task's id, but not the rest of the body.
    Id,
    /// The whole body.
    Body,
}

/// The response shapes seen in New API deployments such as `RelayDance`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, strum::VariantArray)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::VariantArray)]
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
    /// The one API of a provider.
    Only(Provider),
    KlingNew,
    KlingLegacy,
    MiniMaxFirst,
    MiniMaxSecond,
    KieRunway,
    KieVeo,
    KieMarket,
    Apimp(Upstream),
    RelayDance(Shape),
}

impl Dialect {
    pub(crate) fn api(self) -> &'static dyn Api {
        match self {
            Self::Only(provider) => provider.profile().api,
            Self::KlingNew => &kling::Generation::New,
            Self::KlingLegacy => &kling::Generation::Legacy,
            Self::MiniMaxFirst => &minimax::Generation::First,
            Self::MiniMaxSecond => &minimax::Generation::Second,
            Self::KieRunway => &kie::Family::Runway,
            Self::KieVeo => &kie::Family::Veo,
            Self::KieMarket => &kie::Family::Market,
            Self::Apimp(upstream) => &Upstream::VARIANTS[upstream as usize],
            Self::RelayDance(shape) => &Shape::VARIANTS[shape as usize],
        }
    }

    pub(crate) fn provider(self) -> Provider {
        self.api().provider()
    }
}
