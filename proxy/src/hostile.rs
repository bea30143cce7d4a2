//! What has to hold for the code that reads what strangers send, whatever they send: one function for each parser, which panics
//! if it does not. The fuzz targets in `fuzz/` call them; here they run over the same seeds and over some noise.
//!
//! There for tests and for the feature `fuzzing`; nothing of it is in the proxy.

mod request;

pub use crate::{
    downstream::{
        connection::http2::frames::hostile::http2_frames, gate::hostile::http1,
        proxy_protocol::hostile::proxy_protocol,
    },
    tunnel::frames::hostile::websocket_frames,
};
pub use request::{access_line, forwarded, request_headers, request_target};

/// The first byte of what a fuzzer gives says how the others come in: so many at a time.
pub(crate) fn knife(data: &[u8]) -> (usize, &[u8]) {
    data.split_first().map_or((1, data), |(cut, rest)| (usize::from(*cut).max(1), rest))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

    use super::*;

    type Target = (&'static str, fn(&[u8]));

    /// The targets of `fuzz/` that are this crate's.
    const TARGETS: [Target; 8] = [
        ("access_line", access_line),
        ("forwarded", forwarded),
        ("http1", http1),
        ("http2_frames", http2_frames),
        ("proxy_protocol", proxy_protocol),
        ("request_headers", request_headers),
        ("request_target", request_target),
        ("websocket_frames", websocket_frames),
    ];
    /// Changes of each seed.
    const CASES: u32 = 64;

    fn fuzz() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"))
    }

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = fuzz().join("seeds").join(target);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        files.sort();
        files.iter().map(|file| fs::read(file).expect("a seed")).collect()
    }

    /// What is found in a file of seeds once does not come back; what is near a seed holds as well.
    #[test]
    fn what_strangers_send_is_read_as_it_has_to_be() {
        for (name, target) in TARGETS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name} has no seeds");
            for seed in &seeds {
                target(seed);
                let changes = vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4);
                let mut runner = TestRunner::new_with_rng(
                    ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() },
                    prop::test_runner::TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha),
                );
                let ran = runner.run(&changes, |changes| {
                    let mut bytes = seed.clone();
                    for (at, byte, how) in changes {
                        let at = at.index(bytes.len() + 1);
                        match how {
                            0 => bytes.insert(at, byte),
                            1 if at < bytes.len() => drop(bytes.remove(at)),
                            _ if at < bytes.len() => bytes[at] = byte,
                            _ => bytes.push(byte),
                        }
                    }
                    target(&bytes);
                    Ok(())
                });
                ran.unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }

    /// Cargo's own list, so that no target is forgotten here or there.
    #[test]
    fn every_parser_has_a_fuzz_target() {
        let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("a manifest");
        for (name, _) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml lacks {name}");
            let file = fuzz().join("fuzz_targets").join(format!("{name}.rs"));
            let text = fs::read_to_string(file).expect("a target");
            assert!(text.contains(&format!("weir_proxy::hostile::{name}(data)")), "{text}");
        }
        let all = manifest.matches("[[bin]]").count();
        assert_eq!(all, TARGETS.len() + 1, "one more is the packets', tested in common/tests/packet.rs");
    }
}
