//! Forgeries of a signature by somebody who learned the URL: Standard Webhooks, fal's and `OpenRouter`'s over the body, Vidu's over route
//! and headers, KIE's over task id and time. All but the secret is known.
//!
//! No forgeries, and not in here: a genuine callback that is sent again within the tolerance is a duplicate, and so is one with
//! another `x-hmac-access-key`, which is a constant of Vidu's. Another body under a signature that leaves the body out is a
//! hint, see [`super::a_made_up_body_is_a_hint_and_no_more`].

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reelhook_core::signature::hmac_sha256;
use ring::signature::Ed25519KeyPair;
use sha2::{Digest as _, Sha256};
use simulator::Provider;

use super::super::sandbox::signs_body;
use super::bodies;
use super::request::{Forgery, Request, UNAUTHORIZED, flipped_bits};

/// What forgeries are made of.
pub(super) struct Material {
    pub(super) provider: Provider,
    /// A genuine request, and the provider's id of its task.
    pub(super) genuine: Request,
    pub(super) id: String,
    /// The same about another task of the provider.
    pub(super) other: Request,
    /// What the provider signs with, as in the settings.
    pub(super) secret: String,
    pub(super) api_key: String,
}

/// The headers that make up a signature, and the one with the signature itself, which comes last.
fn signed_headers(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::Fal => {
            &["x-fal-webhook-request-id", "x-fal-webhook-user-id", "x-fal-webhook-timestamp", "x-fal-webhook-signature"]
        }
        Provider::OpenRouter => &["x-openrouter-signature"],
        provider if signs_body(provider) => &["webhook-id", "webhook-timestamp", "webhook-signature"],
        Provider::Vidu => &["x-hmac-algorithm", "x-hmac-signed-headers", "date", "x-request-nonce", "x-hmac-signature"],
        Provider::Kie => &["x-webhook-timestamp", "x-webhook-signature"],
        _ => &[],
    }
}

/// Signs with a key of 32 bytes, or with what becomes of another.
fn ed25519(key: &[u8], message: &[u8]) -> Vec<u8> {
    let seed = if key.len() == 32 { key.to_vec() } else { Sha256::digest(key).to_vec() };
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed has 32 bytes");
    pair.sign(message).as_ref().to_vec()
}

pub(super) fn forgeries(material: &Material) -> Vec<Forgery> {
    if signed_headers(material.provider).is_empty() {
        return vec![];
    }
    // These come first, because time passes: what is half a minute too early now is in time afterwards.
    let mut forgeries = material.other_times();
    forgeries.extend(material.other_headers());
    forgeries.extend(material.doubled_headers());
    forgeries.extend(material.other_keys());
    forgeries.extend(material.other_schemes());
    forgeries.extend(material.other_places());
    forgeries.extend(match material.provider {
        provider if signs_body(provider) => material.other_bodies(),
        Provider::Vidu => material.other_routes(),
        _ => material.other_ids(),
    });
    forgeries
}

fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
    i64::try_from(since_epoch.as_secs()).expect("a time of this age")
}

impl Material {
    fn forged(&self, name: impl Into<String>, change: impl FnOnce(&mut Request)) -> Forgery {
        self.genuine.forged(name, UNAUTHORIZED, change)
    }

    /// The key that the secret stands for.
    fn key(&self) -> Vec<u8> {
        if self.provider == Provider::WaveSpeed {
            self.secret.trim_start_matches("whsec_").as_bytes().to_vec()
        } else if matches!(self.provider, Provider::Kling | Provider::Replicate) {
            STANDARD.decode(self.secret.trim_start_matches("whsec_")).expect("it is base64")
        } else {
            self.secret.clone().into_bytes()
        }
    }

    /// Signs a request as the provider does, with any key, at any time.
    fn sign(&self, request: &mut Request, key: &[u8], seconds: i64) {
        let stamp = seconds.to_string();
        let encoded = |parts: &[&[u8]]| STANDARD.encode(hmac_sha256(key, parts));
        match self.provider {
            Provider::Fal => {
                let (id, user) = (request.header("x-fal-webhook-request-id"), request.header("x-fal-webhook-user-id"));
                let message = format!("{id}\n{user}\n{stamp}\n{}", hex::encode(Sha256::digest(&request.body)));
                let signature = hex::encode(ed25519(key, message.as_bytes()));
                request.set_header("x-fal-webhook-timestamp", stamp);
                request.set_header("x-fal-webhook-signature", signature);
            }
            Provider::OpenRouter => {
                let signature = hex::encode(hmac_sha256(key, &[stamp.as_bytes(), b",", &request.body]));
                request.set_header("x-openrouter-signature", format!("t={stamp},v1={signature}"));
            }
            provider if signs_body(provider) => {
                let parts = [request.header("webhook-id").as_bytes(), b".", stamp.as_bytes(), b".", &request.body];
                let signature = match self.provider {
                    Provider::Veo => format!("v1a,{}", STANDARD.encode(ed25519(key, &parts.concat()))),
                    Provider::WaveSpeed => format!("v3,{}", hex::encode(hmac_sha256(key, &parts))),
                    _ => format!("v1,{}", encoded(&parts)),
                };
                request.set_header("webhook-timestamp", stamp);
                request.set_header("webhook-signature", signature);
            }
            Provider::Vidu => {
                let date = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
                let date = httpdate::fmt_http_date(date);
                let (path, nonce) = (&request.path, request.header("x-request-nonce"));
                let text = format!("POST\n{path}\n\nvidu\n{date}\nDate:{date}\nx-request-nonce:{nonce}\n");
                request.set_header("x-hmac-signature", encoded(&[text.as_bytes()]));
                request.set_header("Date", date);
            }
            _ => {
                let signature = encoded(&[self.id.as_bytes(), b".", stamp.as_bytes()]);
                request.set_header("x-webhook-timestamp", stamp);
                request.set_header("x-webhook-signature", signature);
            }
        }
    }

    /// Signed with the provider's own secret, but not now.
    fn other_times(&self) -> Vec<Forgery> {
        let (key, now) = (self.key(), now());
        let control = self.forged("", |request| self.sign(request, &key, now)).request;
        let signed = |request: &Request| request.header(signed_headers(self.provider).last().expect("a header")).len();
        assert_eq!(signed(&control), signed(&self.genuine), "signed as the provider signs");
        let minute = 60;
        let mut times = vec![now + 330, now - 301, now - 600, now + 600, 0, 1, 1_000_000_000, 4_000_000_000];
        times.extend(
            [60, 24 * 60, 365 * 24 * 60]
                .into_iter()
                .flat_map(|minutes| [now - minutes * minute, now + minutes * minute]),
        );
        if self.provider != Provider::Vidu {
            times.extend([
                -now,
                now * 1000,
                now * 1_000_000,
                i64::MAX,
                i64::MIN,
                i64::from(u32::MAX),
                i64::from(i32::MIN),
            ]);
        }
        let forge = |seconds: i64| {
            self.forged(format!("signed at {seconds}, {} s from now", seconds.saturating_sub(now)), |request| {
                self.sign(request, &key, seconds);
            })
        };
        times.into_iter().map(forge).collect()
    }

    /// Every bit of every signed header, and headers that are missing, empty or of another task.
    fn other_headers(&self) -> Vec<Forgery> {
        let names = signed_headers(self.provider);
        let mut forgeries = Vec::new();
        for name in names {
            let value = self.genuine.header(name);
            for (bit, flipped) in flipped_bits(value) {
                forgeries.push(
                    self.forged(format!("{name} with bit {bit} flipped"), |request| request.set_header(name, flipped)),
                );
            }
            for length in 0..value.len() {
                let cut = &value[..length];
                forgeries.push(self.forged(format!("{name} cut to {length}"), |request| request.set_header(name, cut)));
            }
            let other = self.other.header(name);
            if other != value {
                forgeries
                    .push(self.forged(format!("{name} of another task"), |request| request.set_header(name, other)));
            }
            for wrong in
                ["0", "-1", "null", "NaN", "1e9", "0x1", "v1,", "v1", ",", " ", ";", "%00", "ü", "९", "\u{ff11}"]
            {
                forgeries.push(self.forged(format!("{name}: {wrong}"), |request| request.set_header(name, wrong)));
            }
        }
        // Every choice of headers that are left out.
        for choice in 1..1_u32 << names.len() {
            let missing: Vec<&str> =
                (0..names.len()).filter(|index| choice >> index & 1 == 1).map(|index| names[index]).collect();
            forgeries.push(self.forged(format!("without {}", missing.join(", ")), |request| {
                for name in missing {
                    request.remove_header(name);
                }
            }));
        }
        // All headers of another task's callback.
        forgeries
            .push(self.forged("signed for another task", |request| request.headers.clone_from(&self.other.headers)));
        forgeries
    }

    /// A header that comes twice. AWS joins the values with a comma.
    fn doubled_headers(&self) -> Vec<Forgery> {
        let mut forgeries = Vec::new();
        // OpenRouter's is a list already. What else is in it says nothing.
        if self.provider == Provider::OpenRouter {
            return forgeries;
        }
        for name in signed_headers(self.provider) {
            let value = self.genuine.header(name).to_owned();
            for (how, first, second) in [
                ("the same", value.as_str(), value.as_str()),
                ("a wrong one first", "x", &value),
                ("a wrong one last", &value, "x"),
                ("an empty one first", "", &value),
                ("an empty one last", &value, ""),
            ] {
                forgeries.push(self.forged(format!("{name} twice: {how}"), |request| {
                    request.set_header(name, first);
                    request.headers.push(((*name).to_owned(), second.to_owned()));
                }));
            }
        }
        forgeries
    }

    /// Signed now, but not with the provider's secret.
    fn other_keys(&self) -> Vec<Forgery> {
        let secret = self.secret.as_bytes();
        let mut keys: Vec<(&str, Vec<u8>)> = vec![
            ("no key", vec![]),
            ("a null byte", vec![0]),
            ("zeros", vec![0; 32]),
            ("the key and more", [self.key(), vec![b'x']].concat()),
            ("half the key", self.key()[..self.key().len() / 2].to_vec()),
            ("the secret as base64", STANDARD.encode(secret).into_bytes()),
            ("the id of the task", self.id.clone().into_bytes()),
            ("the key of the callback URLs", b"no-secret:local-use-only".to_vec()),
            ("the token", self.genuine.token().as_bytes().to_vec()),
            ("the secret of Kling", b"kling-signing-secret-32-bytes-ok".to_vec()),
            ("the secret of KIE", b"kie-webhook-hmac-key".to_vec()),
            ("the secret of APIMP at Vidu", b"the-token-of-apimp-at-vidu".to_vec()),
            ("the text of a secret", secret.to_vec()),
            ("the API key", self.api_key.clone().into_bytes()),
            ("undefined", b"undefined".to_vec()),
        ];
        // Where a secret is what it says, it is no forgery: Vidu signs with the API key.
        keys.retain(|(_, key)| *key != self.key());
        let forge = |(name, key): (&str, Vec<u8>)| {
            self.forged(format!("signed with {name}"), |request| self.sign(request, &key, now()))
        };
        keys.into_iter().map(forge).collect()
    }

    /// The genuine signature in another form, and under another scheme.
    fn other_schemes(&self) -> Vec<Forgery> {
        let name = signed_headers(self.provider).last().expect("a header");
        let value = self.genuine.header(name);
        let (prefix, signature) = value.split_at(match self.provider {
            Provider::OpenRouter => value.len() - 64,
            Provider::Fal | Provider::Vidu | Provider::Kie => 0,
            Provider::Veo => 4,
            _ => 3,
        });
        let bytes = STANDARD.decode(signature).expect("base64");
        let hexadecimal = hex::encode(&bytes);
        let mut values: Vec<String> = [
            URL_SAFE_NO_PAD.encode(&bytes),
            signature.trim_end_matches('=').to_owned(),
            format!("{signature}="),
            format!("{signature}\u{200b}"),
            format!("{signature}, "),
            signature.to_lowercase(),
            signature.to_uppercase(),
            signature.chars().rev().collect(),
            STANDARD.encode(signature),
            hexadecimal.to_uppercase(),
            hexadecimal,
            STANDARD.encode(&bytes[..20]),
            STANDARD.encode(&bytes[..0]),
            STANDARD.encode([0; 32]),
            STANDARD.encode([0; 64]),
            "A".repeat(100_000),
        ]
        .into_iter()
        .map(|signature| format!("{prefix}{signature}"))
        .collect();
        for scheme in [
            "v0,",
            "v1a,",
            "v2,",
            "V1,",
            "v1 ,",
            "v1=",
            "v1:",
            "v01,",
            "none,",
            "sha256=",
            "hmac-sha256 ",
            "HS256,",
            "\u{2170}1,",
        ] {
            values.push(format!("{scheme}{signature}"));
        }
        values.retain(|other| other != value && other.trim() != value);
        if self.provider == Provider::OpenRouter {
            // A list with an empty item.
            values.retain(|other| other.trim_end_matches([',', ' ']) != value);
        }
        let forge = |value: String| {
            let shown: String = value.chars().take(60).collect();
            self.forged(format!("{name}: {shown}"), |request| request.set_header(name, value))
        };
        values.into_iter().map(forge).collect()
    }

    /// The genuine signature where another provider has its own, and other algorithms.
    fn other_places(&self) -> Vec<Forgery> {
        let name = signed_headers(self.provider).last().expect("a header");
        let mut forgeries = Vec::new();
        for elsewhere in [
            "webhook-signature",
            "svix-signature",
            "x-hmac-signature",
            "x-webhook-signature",
            "authorization",
            "x-signature",
        ] {
            if elsewhere != *name {
                forgeries.push(self.forged(format!("the signature in {elsewhere}"), |request| {
                    request.remove_header(name);
                    request.set_header(elsewhere, self.genuine.header(name));
                }));
            }
        }
        for algorithm in [
            "none",
            "None",
            "",
            "hmac-sha1",
            "hmac-sha512",
            "hmac-md5",
            "HMAC-SHA256",
            "hmac-sha256,none",
            "rsa-sha256",
            "hs256",
            "hmac-sha256;",
        ] {
            if self.provider == Provider::Vidu {
                forgeries.push(self.forged(format!("the algorithm {algorithm}"), |request| {
                    request.set_header("x-hmac-algorithm", algorithm);
                }));
            }
        }
        forgeries
    }

    /// Every bit of the body is signed.
    fn other_bodies(&self) -> Vec<Forgery> {
        let body = &self.genuine.body;
        let mut forgeries: Vec<Forgery> = (0..body.len() * 8)
            .map(|bit| {
                self.forged(format!("the body with bit {bit} flipped"), |request| {
                    request.body[bit / 8] ^= 1 << (bit % 8);
                })
            })
            .collect();
        for length in 0..body.len() {
            forgeries.push(self.forged(format!("the body cut to {length}"), |request| request.body.truncate(length)));
        }
        for (name, body) in bodies::swapped(&self.genuine) {
            forgeries.push(self.forged(format!("the body: {name}"), |request| request.body = body));
        }
        forgeries.push(self.forged("the body of another task", |request| request.body.clone_from(&self.other.body)));
        if !signed_headers(self.provider).contains(&"webhook-id") {
            return forgeries;
        }
        // The parts of the signed text, divided otherwise.
        let (id, stamp) = (self.genuine.header("webhook-id"), self.genuine.header("webhook-timestamp"));
        let text = [id.as_bytes(), b".", stamp.as_bytes(), b".", body].concat();
        for (first, second) in
            [(id.len() - 1, id.len() + stamp.len()), (0, id.len()), (id.len() / 2, id.len() + stamp.len() + 1)]
        {
            forgeries.push(self.forged(format!("the signed text divided at {first} and {second}"), |request| {
                request.set_header("webhook-id", String::from_utf8_lossy(&text[..first]));
                request.set_header("webhook-timestamp", String::from_utf8_lossy(&text[first..second]));
                request.body = text[second..].to_vec();
            }));
        }
        forgeries
    }

    /// Vidu: the route is signed, and the headers that are named.
    fn other_routes(&self) -> Vec<Forgery> {
        let mut forgeries = Vec::new();
        for query in ["x=1", "x", "=", "&", "callback", "a=1&b=2", "%00"] {
            forgeries.push(self.forged(format!("the query {query}"), |request| query.clone_into(&mut request.query)));
        }
        for suffix in ["/", "//", "/callback", "/callback/"] {
            forgeries.push(self.forged(format!("the path with {suffix}"), |request| request.path.push_str(suffix)));
        }
        for names in [
            "Date",
            "x-request-nonce",
            "x-request-nonce;Date",
            "Date;x-request-nonce;Date",
            "Date;;x-request-nonce",
            "Date,x-request-nonce",
            "Date; x-request-nonce",
            ";Date;x-request-nonce",
            "Date;x-request-nonce;host",
            "Date;x-request-nonce;content-type",
            "Date;x-request-nonce;x-absent",
        ] {
            forgeries.push(self.forged(format!("the signed headers {names}"), |request| {
                request.set_header("x-hmac-signed-headers", names);
            }));
        }
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(7));
        forgeries.push(
            self.forged("the nonce replayed at another time", |request| request.set_header("date", later.as_str())),
        );
        forgeries.push(self.forged("the time in the header that AWS renames", |request| {
            request.remove_header("date");
            request.set_header("x-amzn-remapped-date", later);
        }));
        for count in [1_000, 100_000] {
            let names = "x-request-nonce;".repeat(count);
            forgeries.push(self.forged(format!("{count} signed headers"), |request| {
                request.set_header("x-hmac-signed-headers", names);
            }));
        }
        forgeries
    }

    /// KIE: the id is signed, wherever in the body it stands.
    fn other_ids(&self) -> Vec<Forgery> {
        let text = String::from_utf8(self.genuine.body.clone()).expect("a callback is text");
        let replaced = |id: &str| text.replace(&self.id, id).into_bytes();
        let mut forgeries: Vec<Forgery> = (0..self.id.len() * 8)
            .map(|bit| {
                let mut id = self.id.clone().into_bytes();
                id[bit / 8] ^= 1 << (bit % 8);
                let start = text.find(&self.id).expect("the id is in the body");
                self.forged(format!("the id with bit {bit} flipped"), |request| {
                    request.body[start..start + id.len()].copy_from_slice(&id);
                })
            })
            .collect();
        for id in [
            "",
            "null",
            "0",
            &self.id.to_uppercase(),
            &format!("{} ", self.id),
            &format!("{}.", self.id),
            &format!("{}\\u0000", self.id),
        ] {
            if id != self.id {
                forgeries.push(self.forged(format!("the id {id:?}"), |request| request.body = replaced(id)));
            }
        }
        for body in ["", "{}", "[]", "null", "{\"data\":null}", "{\"data\":{}}", "{\"data\":[]}", "<<no json>>"] {
            forgeries.push(self.forged(format!("the body {body}"), |request| request.body = body.into()));
        }
        // The genuine id beside another: only one of them is signed.
        for field in ["taskId", "task_id"] {
            for body in [
                text.replacen('{', &format!("{{\"{field}\":\"another\","), 1),
                text.replacen("\"data\":{", &format!("\"data\":{{\"{field}\":\"another\","), 1),
                format!("{},\"data\":{{\"{field}\":\"another\"}}}}", text.trim_end_matches('}')),
            ] {
                // Of two equal keys the last one counts, for the signature and for the record alike.
                let last = serde_json::from_str::<serde_json::Value>(&body).ok();
                let genuine = serde_json::from_str::<serde_json::Value>(&text).ok();
                if last != genuine {
                    forgeries.push(self.forged(format!("{field} of another task as well"), |request| {
                        request.body = body.into_bytes();
                    }));
                }
            }
        }
        forgeries
    }
}
