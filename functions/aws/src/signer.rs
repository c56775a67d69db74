//! Signature version 4 for calls with a JSON body: `DynamoDB`, SQS, Secrets Manager. The SDK's signer takes any request there is,
//! derives its key anew for each, and was a third of what a callback executes; this one keeps its key for the day. S3 keeps the
//! SDK's.
//!
//! [The rules](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::{AuthScheme, AuthSchemeEndpointConfig, AuthSchemeId, Sign};
use aws_smithy_runtime_api::client::identity::{Identity, SharedIdentityResolver};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::{GetIdentityResolver, RuntimeComponents};
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;
use aws_types::SigningName;
use aws_types::region::SigningRegion;
use ring::{digest, hmac};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// How far the clock of AWS is ahead of this process's, in seconds. AWS refuses signatures that are more than some minutes off;
/// its refusals say what time it is, and the SDK repeats a call that was refused for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceClock(Arc<AtomicI64>);

impl ServiceClock {
    /// Learns from the time of a refusal, as its header has it.
    pub(crate) fn learn(&self, date: &str, now: SystemTime) {
        if let Ok(theirs) = DateTime::from_str(date, Format::HttpDate) {
            self.0.store(theirs.secs() - DateTime::from(now).secs(), Ordering::Relaxed);
        }
    }

    /// In seconds since 1970.
    fn seconds(&self, now: SystemTime) -> i64 {
        DateTime::from(now).secs() + self.0.load(Ordering::Relaxed)
    }
}

/// The scheme under the SDK's own name, which it replaces.
#[derive(Debug)]
pub(crate) struct JsonSigV4 {
    signer: Signer,
}

impl JsonSigV4 {
    /// Signs with this clock.
    pub(crate) fn new(clock: ServiceClock) -> Self {
        Self { signer: Signer { clock, ..Signer::default() } }
    }
}

impl AuthScheme for JsonSigV4 {
    fn scheme_id(&self) -> AuthSchemeId {
        AuthSchemeId::new("sigv4")
    }

    fn identity_resolver(&self, resolvers: &dyn GetIdentityResolver) -> Option<SharedIdentityResolver> {
        resolvers.identity_resolver(self.scheme_id())
    }

    fn signer(&self) -> &dyn Sign {
        &self.signer
    }
}

/// One per client, and so for one service of one region.
#[derive(Default)]
struct Signer {
    clock: ServiceClock,
    /// The key of a day. Credentials do not change in a process: Lambda starts another one.
    key: Mutex<Option<(String, hmac::Key)>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Sign for Signer {
    fn sign_http_request(
        &self,
        request: &mut HttpRequest,
        identity: &Identity,
        _: AuthSchemeEndpointConfig<'_>,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        let credentials = identity.data::<Credentials>().ok_or("there are no AWS credentials to sign with")?;
        let region = config.load::<SigningRegion>().ok_or("there is no region to sign for")?;
        let service = config.load::<SigningName>().ok_or("there is no service to sign for")?;
        let now = components.time_source().unwrap_or_default().now();
        self.sign(request, credentials, region.as_ref(), service.as_ref(), now)
    }
}

impl Signer {
    fn sign(
        &self,
        request: &mut HttpRequest,
        credentials: &Credentials,
        region: &str,
        service: &str,
        now: SystemTime,
    ) -> Result<(), BoxError> {
        // 20261128T184500Z: the extended format without its punctuation.
        let now = DateTime::from_secs(self.clock.seconds(now)).fmt(Format::DateTime)?.replace(['-', ':'], "");
        let day = &now[..8];
        let authority = request.uri().split_once("://").ok_or("the endpoint is not a URL")?.1;
        let (host, path) = authority.split_at(authority.find('/').unwrap_or(authority.len()));
        if !matches!(path, "" | "/") || request.method() != "POST" {
            return Err("only a POST to / is signed here".into());
        }
        let host = host.to_owned();
        request.headers_mut().insert("x-amz-date", now.clone());
        if let Some(token) = credentials.session_token() {
            request.headers_mut().insert("x-amz-security-token", token.to_owned());
        }
        let mut headers: Vec<(&str, &str)> = request
            .headers()
            .iter()
            .filter(|(name, _)| *name == "content-type" || name.starts_with("x-amz-"))
            .collect();
        headers.push(("host", &host));
        headers.sort_unstable();
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let body = request.body().bytes().ok_or("only a body in memory is signed here")?;

        let mut canonical = "POST\n/\n\n".to_owned();
        for (name, value) in headers {
            canonical.extend([name, ":", value.trim(), "\n"]);
        }
        canonical.extend(["\n", &names, "\n", &hex::encode(digest::digest(&digest::SHA256, body))]);
        let scope = [day, region, service, "aws4_request"].join("/");
        let hash = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        let to_sign = [ALGORITHM, &now, &scope, &hash].join("\n");
        let signature = hex::encode(hmac::sign(&self.key(credentials, &scope), to_sign.as_bytes()));
        let access_key = credentials.access_key_id();
        let authorization =
            format!("{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}");
        request.headers_mut().insert("authorization", authorization);
        Ok(())
    }

    fn key(&self, credentials: &Credentials, scope: &str) -> hmac::Key {
        let mut kept = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = kept.as_ref().filter(|(of, _)| of == scope) {
            return key.clone();
        }
        let secret = format!("AWS4{}", credentials.secret_access_key());
        let first = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let key = scope
            .split('/')
            .fold(first, |key, part| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref()));
        *kept = Some((scope.to_owned(), key.clone()));
        key
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    use aws_sigv4::sign::v4::SigningParams;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn request(body: &'static str) -> HttpRequest {
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST").expect("a method");
        request.set_uri("https://dynamodb.eu-central-1.amazonaws.com/").expect("a URL");
        for (name, value) in [
            ("content-type", "application/x-amz-json-1.0"),
            ("content-length", "2"),
            ("user-agent", "reelhook"),
            ("x-amz-target", "DynamoDB_20120810.UpdateItem"),
            ("x-amz-user-agent", "aws-sdk-rust/1.0 api/dynamodb"),
        ] {
            request.headers_mut().insert(name, value);
        }
        request
    }

    /// What AWS's own signer makes of the headers that this one signs.
    fn expected(request: &HttpRequest, credentials: Credentials, now: SystemTime) -> String {
        let identity = credentials.into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region("eu-central-1")
            .name("dynamodb")
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .expect("parameters");
        let left_out = ["content-length", "user-agent", "authorization", "x-amz-date", "x-amz-security-token"];
        let headers = request.headers().iter().filter(|(name, _)| !left_out.contains(name));
        let body = SignableBody::Bytes(request.body().bytes().expect("a body"));
        let signable = SignableRequest::new(request.method(), request.uri(), headers, body).expect("it can be signed");
        let (instructions, _) = sign(signable, &parameters.into()).expect("it is signed").into_parts();
        let (headers, _) = instructions.into_parts();
        let authorization = headers.into_iter().find(|header| header.name() == "authorization").expect("it is there");
        authorization.value().to_owned()
    }

    #[test]
    fn signatures_are_those_of_the_sdk() {
        let signer = Signer::default();
        for (body, token, seconds) in [
            ("{}", None, 1_795_889_398),
            ("{\"a\":\"\u{e9}\"}", Some("token/with+signs=="), 1_795_889_399),
            ("", Some("token"), 1_795_889_399),
            // The next day, with the same signer.
            ("{}", None, 1_795_975_799),
        ] {
            let credentials =
                Credentials::new("AKIDEXAMPLE", "secret/key+EXAMPLE", token.map(str::to_owned), None, "test");
            let now = UNIX_EPOCH + Duration::from_secs(seconds);
            let mut request = request(body);
            signer.sign(&mut request, &credentials, "eu-central-1", "dynamodb", now).expect("it is signed");
            assert_eq!(request.headers().get("authorization"), Some(expected(&request, credentials, now).as_str()));
        }
    }

    #[test]
    fn a_clock_that_is_off_is_corrected_by_a_refusal() {
        let (clock, now) = (ServiceClock::default(), UNIX_EPOCH + Duration::from_secs(1_795_889_398));
        clock.learn("Sat, 28 Nov 2026 18:23:18 GMT", now);
        assert_eq!(clock.seconds(now), 1_795_890_198);
        clock.learn("soon", now);
        assert_eq!(clock.seconds(now), 1_795_890_198);
    }

    #[test]
    fn what_it_would_sign_wrongly_it_refuses() {
        let credentials = Credentials::new("key", "secret", None, None, "test");
        let mut other = request("{}");
        other.set_uri("https://bucket.s3.amazonaws.com/key?versionId=1").expect("a URL");
        assert!(Signer::default().sign(&mut other, &credentials, "eu-central-1", "s3", UNIX_EPOCH).is_err());
    }
}
