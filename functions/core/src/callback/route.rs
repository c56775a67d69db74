//! From the path of a callback URL to an authentic callback.

use super::Authentic;
use crate::provider::Provider;
use crate::providers::adapter::Callbacks;
use crate::redacted::Secret;
use crate::request::{CallbackRequest, Refusal};
use crate::settings::Settings;
use crate::task::TaskId;
use crate::time::Timestamp;
use crate::token::STATIC_ID;

/// The target of a callback: `/callback/{provider}/{id}/{token}`.
#[derive(Clone, Debug)]
pub struct Route {
    provider: Provider,
    callbacks: &'static Callbacks,
    id: Option<TaskId>,
    token: Secret,
}

/// Why a path is not a callback URL. No retry can help, so the response is a 404.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RouteError {
    /// Not of the form of a callback URL.
    #[error("not a callback URL: expected /callback/{{provider}}/{{id}}/{{token}}")]
    Form,
    /// The provider does not exist.
    #[error("unknown provider; use one of {}", Provider::names())]
    Provider,
    /// The provider never calls back, so whoever did is somebody else.
    #[error("the provider sends no callbacks")]
    NoCallbacks,
    /// The provider's callbacks do not say enough about the task for one URL to serve several.
    #[error("the provider has no static callback URL: its callbacks do not say enough about the task")]
    Static,
    /// The id is not valid.
    #[error("the id in the URL is neither \"-\" nor a task id")]
    Id,
}

impl Route {
    /// Parses the path of a callback URL. A trailing slash and a trailing `/callback` are accepted: `APIMart` appends the
    /// latter to the URL it is given.
    pub fn parse(path: &str) -> Result<Self, RouteError> {
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/callback").unwrap_or(path).trim_end_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        let ["", "callback", provider, id, token] = parts[..] else { return Err(RouteError::Form) };
        let provider = Provider::from_name(provider).ok_or(RouteError::Provider)?;
        let callbacks = provider.adapter().profile().callbacks.as_ref().ok_or(RouteError::NoCallbacks)?;
        let id = if id == STATIC_ID { None } else { Some(id.parse().map_err(|_| RouteError::Id)?) };
        if id.is_none() && !provider.has_static_url() {
            return Err(RouteError::Static);
        }
        Ok(Self { provider, callbacks, id, token: Secret::new(token) })
    }

    /// The provider that was given this URL.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// How this provider calls back.
    pub fn callbacks(&self) -> &'static Callbacks {
        self.callbacks
    }

    /// Checks the token, then the provider's own signature.
    pub fn authenticate<'a>(
        &self,
        request: &CallbackRequest<'a>,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Authentic<'a>, Refusal> {
        if !settings.callback_keys.accept(self.provider, self.id.as_ref(), self.token.expose()) {
            return Err(Refusal::WrongToken);
        }
        let authenticity = self.provider.adapter().authenticate(request, settings.provider(self.provider), now)?;
        Ok(Authentic { provider: self.provider, id: self.id.clone(), authenticity, body: request.body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callback_urls_are_accepted_in_every_form_that_providers_use() {
        for path in [
            "/callback/apimart/job-1/tok",
            "/callback/apimart/job-1/tok/",
            "/callback/apimart/job-1/tok/callback",
            "/callback/apimart/job-1/tok/callback/",
        ] {
            let route = Route::parse(path).expect("a callback URL");
            assert_eq!(route.provider, Provider::ApiMart);
            assert_eq!(route.id.as_ref().map(TaskId::as_str), Some("job-1"));
            assert_eq!(route.token.expose(), "tok");
        }
        assert!(Route::parse("/callback/kling/-/tok").expect("a callback URL").id.is_none());
    }

    #[test]
    fn other_paths_are_refused() {
        for (path, why) in [
            ("/", RouteError::Form),
            ("/callback", RouteError::Form),
            ("/callback/kling/job-1", RouteError::Form),
            ("/callback/kling/job-1/tok/more", RouteError::Form),
            ("/other/kling/job-1/tok", RouteError::Form),
            ("callback/kling/job-1/tok", RouteError::Form),
            ("/callback/klingon/job-1/tok", RouteError::Provider),
            ("/callback/Kling/job-1/tok", RouteError::Provider),
            ("/callback/kling/job%2F1/tok", RouteError::Id),
            ("/callback/kling/../tok", RouteError::Id),
            ("/callback/apimp/-/tok", RouteError::Static),
        ] {
            assert_eq!(Route::parse(path).expect_err("not a callback URL"), why, "{path}");
        }
    }
}
