//! The adapters, one file per provider, without input or output: bytes and headers in, values out. `reelhook-aws` sends the
//! [`adapter::Request`] values they build, so every adapter can be tested from a file, fuzzed, and compared with the
//! provider's documentation.

use crate::provider::Provider;
use crate::report::Outcome;
use crate::settings::ProviderSettings;

pub mod adapter;
mod apimart;
mod apimp;
mod ark;
pub mod batch;
pub mod failures;
mod fal;
mod grok;
mod json;
mod kie;
mod kling;
mod links;
mod maxapi;
mod minimax;
mod openrouter;
mod prelude;
mod relaydance;
mod replicate;
mod requests;
mod responses;
mod runway;
#[cfg(test)]
mod tests;
mod veo;
mod vidu;
mod wan;
mod wavespeed;

impl Provider {
    /// The adapter of this provider.
    pub fn adapter(self) -> &'static dyn adapter::Adapter {
        match self {
            Self::RelayDance => &relaydance::RelayDance,
            Self::MaxApi => &maxapi::MaxApi,
            Self::ApiMart => &apimart::ApiMart,
            Self::Apimp => &apimp::Apimp,
            Self::Kling => &kling::Kling,
            Self::Ark => &ark::Ark,
            Self::MiniMax => &minimax::MiniMax,
            Self::Vidu => &vidu::Vidu,
            Self::Kie => &kie::Kie,
            Self::Replicate => &replicate::Replicate,
            Self::WaveSpeed => &wavespeed::WaveSpeed,
            Self::Fal => &fal::Fal,
            Self::Runway => &runway::Runway,
            Self::Grok => &grok::Grok,
            Self::OpenRouter => &openrouter::OpenRouter,
            Self::Wan => &wan::Wan,
            Self::Veo => &veo::Veo,
        }
    }

    /// Whether the provider calls back at all. If not, its tasks get no callback URL and are only polled.
    pub fn calls_back(self) -> bool {
        self.adapter().profile().callbacks.is_some()
    }

    /// Whether the provider sends a callback for a task that ends like this.
    pub fn calls_back_about(self, outcome: Outcome) -> bool {
        let callbacks = self.adapter().profile().callbacks;
        callbacks.is_some_and(|callbacks| outcome == Outcome::Succeeded || callbacks.reports_failures)
    }

    /// Whether a callback URL for tasks that nobody registers is of use: the bodies name the task, and that is all a status poll needs.
    pub fn has_static_url(self) -> bool {
        self.adapter().names_its_tasks() && !self.adapter().needs_endpoint()
    }

    /// Where the provider publishes the keys of its signatures: the adapter's URL, unless the settings have another.
    pub fn key_set_url(self, settings: &ProviderSettings) -> Option<&str> {
        settings.key_set_url.as_deref().or(self.adapter().key_set_url())
    }

    /// Whether the settings allow status polls of this provider at all.
    pub fn is_pollable(self, settings: &ProviderSettings) -> bool {
        let has_base_url = settings.base_url.is_some() || self.adapter().profile().default_base_url.is_some();
        settings.has_credentials() && has_base_url
    }
}
