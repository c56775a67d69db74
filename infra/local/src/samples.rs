//! A small, complete request for every provider, in the provider's own format: the body of `PUT /tasks/{provider}/{id}`. The
//! demonstration, the integration tests and the printed `curl` commands all send these.

use serde_json::{Value, json};
use simulator::Provider;

/// A request to one of a provider's endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The provider it is for.
    pub provider: Provider,
    /// The value of `?endpoint=`; `None` if the provider has only one endpoint.
    pub endpoint: Option<&'static str>,
    body: fn(&str) -> Value,
}

impl Sample {
    /// The body, with this prompt in the provider's field.
    pub fn body(&self, prompt: &str) -> Value {
        (self.body)(prompt)
    }
}

/// One request per provider.
pub const SAMPLES: &[Sample] = &[
    Sample {
        provider: Provider::Kling,
        endpoint: Some("/text-to-video/kling-2.6"),
        body: |prompt| json!({ "prompt": prompt, "settings": { "resolution": "720p", "aspect_ratio": "16:9", "duration": 5 } }),
    },
    Sample {
        provider: Provider::MaxApi,
        endpoint: None,
        body: |prompt| {
            json!({
                "model": "seedance-2.0-fast",
                "input": { "prompt": prompt, "ratio": "16:9", "resolution": "720p", "duration": 5 },
            })
        },
    },
    Sample {
        provider: Provider::ApiMart,
        endpoint: None,
        body: |prompt| json!({ "model": "sora-2", "prompt": prompt, "duration": 4, "aspect_ratio": "16:9" }),
    },
    Sample {
        provider: Provider::Ark,
        endpoint: None,
        body: |prompt| {
            json!({
                "model": "doubao-seedance-2-0-260128",
                "content": [{ "type": "text", "text": prompt }],
                "duration": 5,
                "return_last_frame": true,
            })
        },
    },
    Sample {
        provider: Provider::MiniMax,
        endpoint: None,
        body: |prompt| json!({ "model": "MiniMax-Hailuo-2.3", "prompt": prompt, "duration": 6, "resolution": "768P" }),
    },
    Sample {
        provider: Provider::Vidu,
        endpoint: Some("/ent/v2/text2video"),
        body: |prompt| json!({ "model": "viduq3-turbo", "prompt": prompt, "duration": 5, "resolution": "720p" }),
    },
    Sample {
        provider: Provider::Kie,
        endpoint: Some("/api/v1/runway/generate"),
        body: |prompt| json!({ "prompt": prompt, "duration": 5, "quality": "720p", "aspectRatio": "16:9", "waterMark": "" }),
    },
    Sample {
        provider: Provider::Apimp,
        endpoint: None,
        body: |prompt| json!({ "model": "kling-v1", "input": { "prompt": prompt, "duration": 5 } }),
    },
    Sample {
        provider: Provider::RelayDance,
        endpoint: None,
        body: |prompt| {
            json!({
                "model": "doubao-seedance-2-0",
                "prompt": prompt,
                "seconds": "5",
                "metadata": { "ratio": "16:9", "resolution": "720p" },
            })
        },
    },
    Sample {
        provider: Provider::Replicate,
        endpoint: Some("/v1/models/kwaivgi/kling-v2.1/predictions"),
        body: |prompt| json!({ "input": { "prompt": prompt, "duration": 5 } }),
    },
    Sample {
        provider: Provider::WaveSpeed,
        endpoint: Some("/api/v3/kwaivgi/kling-v2.5-turbo-pro/text-to-video"),
        body: |prompt| json!({ "prompt": prompt, "duration": 5 }),
    },
    Sample {
        provider: Provider::Fal,
        endpoint: Some("/fal-ai/kling-video/v2.5-turbo/pro/text-to-video"),
        body: |prompt| json!({ "prompt": prompt, "duration": "5", "aspect_ratio": "16:9" }),
    },
    Sample {
        provider: Provider::Runway,
        endpoint: Some("/v1/text_to_video"),
        body: |prompt| json!({ "model": "gen4.5", "promptText": prompt, "ratio": "1280:720", "duration": 5 }),
    },
    Sample {
        provider: Provider::Grok,
        endpoint: None,
        body: |prompt| json!({ "model": "grok-imagine-video", "prompt": prompt, "duration": 6, "resolution": "480p" }),
    },
    Sample {
        provider: Provider::OpenRouter,
        endpoint: None,
        body: |prompt| json!({ "model": "google/veo-3.1", "prompt": prompt, "duration": 4, "aspect_ratio": "16:9" }),
    },
    Sample {
        provider: Provider::Wan,
        endpoint: None,
        body: |prompt| {
            json!({
                "model": "wan2.7-t2v",
                "input": { "prompt": prompt },
                "parameters": { "resolution": "720P", "ratio": "16:9", "duration": 5 },
            })
        },
    },
    Sample {
        provider: Provider::Veo,
        endpoint: Some("/v1beta/models/veo-3.1-fast-generate-preview:predictLongRunning"),
        body: |prompt| {
            json!({
                "instances": [{ "prompt": prompt }],
                "parameters": { "aspectRatio": "16:9", "durationSeconds": 4, "resolution": "720p" },
            })
        },
    },
];

/// The sample of a provider.
///
/// # Panics
///
/// Never: a test covers all providers.
pub fn of(provider: Provider) -> Sample {
    let sample = SAMPLES.iter().copied().find(|sample| sample.provider == provider);
    sample.expect("every provider has a sample")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_has_a_sample() {
        for provider in Provider::ALL {
            assert_eq!(of(provider).provider, provider);
        }
    }
}
