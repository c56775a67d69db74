//! Payloads of Veo.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reelhook_core::Provider;

fuzz_target!(|data: &[u8]| fuzz::parse(Provider::Veo, data));
