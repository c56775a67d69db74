//! The providers and their names. Their adapters are in [`crate::providers`].

use strum::{EnumCount, VariantArray};

/// The supported providers. Their names (`Display`, [`Provider::from_name`]) are part of URLs, keys and settings.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::Display,
    strum::EnumCount,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "lowercase")]
pub enum Provider {
    /// `RelayDance`, relaydance.com.
    RelayDance,
    /// `MaxAPI`, docs.maxapi.io.
    MaxApi,
    /// `APIMart`, docs.apimart.ai.
    ApiMart,
    /// APIMP, doc.apimp.ai.
    Apimp,
    /// Kling (Kuaishou), directly.
    Kling,
    /// Volcengine Ark and `BytePlus` `ModelArk` (`ByteDance` Seedance), directly.
    Ark,
    /// `MiniMax` Hailuo, directly.
    MiniMax,
    /// Vidu (Shengshu), directly.
    Vidu,
    /// KIE.AI, docs.kie.ai.
    Kie,
    /// Replicate, replicate.com.
    Replicate,
    /// `WaveSpeed` AI, wavespeed.ai.
    WaveSpeed,
    /// fal, fal.ai.
    Fal,
    /// Runway, docs.dev.runwayml.com.
    Runway,
    /// Grok Imagine (xAI), docs.x.ai.
    Grok,
    /// `OpenRouter`, openrouter.ai.
    OpenRouter,
    /// Alibaba Wan, by `DashScope` (Model Studio).
    Wan,
    /// Google Veo over the Gemini API, ai.google.dev.
    Veo,
}

impl Provider {
    /// Every provider, in the order of the README's table.
    pub const ALL: [Self; Self::COUNT] = match Self::VARIANTS.first_chunk() {
        Some(all) => *all,
        None => unreachable!(),
    };

    /// The name in URLs, keys and settings.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The provider with this name, in exactly this case.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// All names, for messages: `relaydance, maxapi, …`.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}
