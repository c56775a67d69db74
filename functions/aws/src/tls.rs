//! TLS, with ring and no client certificate.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// A configuration that trusts these roots.
pub(crate) fn client_config(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The roots that providers and origins are trusted by: Mozilla's, compiled in. To read and parse the 150 of the operating
/// system took most of a function's start.
pub(crate) fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}
