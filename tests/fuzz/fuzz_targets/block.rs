#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| botstats_tests::decoders::check("block", bytes));
