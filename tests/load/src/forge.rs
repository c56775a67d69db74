//! What somebody posts who is not the provider.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Client;
use simulator::{Callback, Provider, Signs};
use tokio::time::sleep;

use crate::Error;
use crate::plan::Forgery;

/// A success and a failure of each provider, from tasks of the forger's own.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    of_provider: BTreeMap<Provider, [Template; 2]>,
}

#[derive(Clone, Debug)]
struct Template {
    id: String,
    callback: Callback,
}

/// The task that a forgery is about.
#[derive(Clone, Debug)]
pub struct Victim {
    /// Its provider.
    pub provider: Provider,
    /// Its id there.
    pub provider_task_id: String,
    /// The callback URL that was learned.
    pub callback_url: String,
}

impl Templates {
    /// Adds a success and a failure, each with its provider's id.
    pub fn add(&mut self, provider: Provider, success: (String, Callback), failure: (String, Callback)) {
        let templates = [success, failure].map(|(id, callback)| Template { id, callback });
        self.of_provider.insert(provider, templates);
    }

    /// Posts a forgery. Fails when it is not refused although it has to be.
    pub async fn post(&self, http: &Client, forgery: Forgery, victim: &Victim) -> Result<(), Error> {
        let missing = || Error::Missing(format!("there is no template of {}", victim.provider));
        let [success, failure] = self.of_provider.get(&victim.provider).ok_or_else(missing)?;
        let template = if forgery == Forgery::Failure { failure } else { success };
        let id = if forgery == Forgery::OtherTask { &template.id } else { &victim.provider_task_id };
        let body = String::from_utf8_lossy(&template.callback.body).replace(&template.id, id);
        let target = victim.provider.target(&victim.callback_url);
        let (url, headers) = match forgery {
            // The URL of another task, so its token as well: that of a task that does not exist.
            Forgery::WrongToken => (with_other_token(&victim.callback_url), &template.callback.headers[..]),
            Forgery::WrongSignature => (target, &template.callback.headers[..]),
            Forgery::Failure | Forgery::Success | Forgery::OtherTask => (target, &[][..]),
        };
        let must_be_refused = forgery == Forgery::WrongToken || victim.provider.signs() >= Signs::Id;
        // A 503 says that AWS failed, and whoever posts this tries again.
        for _ in 0..20 {
            let status = posted(http, &url, headers, &body).await?;
            match status {
                401 => return Ok(()),
                200 if !must_be_refused => return Ok(()),
                502 | 503 => sleep(Duration::from_millis(100)).await,
                _ => {
                    let call = format!("{forgery:?} about {}", victim.callback_url);
                    return Err(Error::Refused { call, status, body });
                }
            }
        }
        Err(Error::Missing(format!("{forgery:?} about {} had no clear response", victim.callback_url)))
    }
}

async fn posted(http: &Client, url: &str, headers: &[(String, String)], body: &str) -> Result<u16, Error> {
    let mut request = http.post(url).header("content-type", "application/json").body(body.to_owned());
    for (name, value) in headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-type")) {
        request = request.header(name, value);
    }
    Ok(request.send().await?.status().as_u16())
}

/// A token of the same form.
fn with_other_token(url: &str) -> String {
    let (path, token) = url.rsplit_once('/').unwrap_or((url, ""));
    let turned: String = token.chars().rev().collect();
    format!("{path}/{turned}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_token_is_another_one() {
        assert_eq!(with_other_token("http://a/callback/kling/x/abc"), "http://a/callback/kling/x/cba");
    }
}
