//! Veo's signature by a secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reelhook_core::Provider;

fuzz_target!(|data: &[u8]| fuzz::verify_webhook(Provider::Veo, data));
