//! TLS towards providers and origins. The roots are Mozilla's, compiled in: reading and parsing the 150 of the operating system
//! took most of a function's start.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// A configuration with ring, Mozilla's roots and no client certificate.
pub(crate) fn client_config() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
