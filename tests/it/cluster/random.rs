//! Random moments and choices that a seed repeats.

use std::env;
use std::str::FromStr;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Returns what a variable of the environment says, or the default.
pub fn from_environment<T: FromStr>(variable: &str, default: T) -> T {
    env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Small, fast, and the same on every machine (xorshift64*).
pub struct Random(u64);

impl Random {
    /// Starts from `SEED`, or from the default, and prints which.
    pub fn seeded() -> Random {
        let seed = from_environment("SEED", 20_251_122);
        println!("SEED={seed}");
        Random(seed)
    }

    /// Starts another sequence, which this one determines.
    pub fn fork(&mut self) -> Random {
        Random(self.below(u64::MAX >> 1) | 1)
    }

    /// Runs a test with random values, as `config` says. Panics with the reason of the simplest that fails.
    pub fn run<S: Strategy>(
        &mut self,
        config: Config,
        values: &S,
        test: impl Fn(S::Value) -> Result<(), TestCaseError>,
    ) {
        let mut seed = [0; 32];
        seed.fill_with(|| self.below(256) as u8);
        let config = Config { failure_persistence: None, ..config };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        match TestRunner::new_with_rng(config, rng).run(values, test) {
            Ok(()) => {}
            Err(TestError::Fail(reason, _) | TestError::Abort(reason)) => panic!("{reason}"),
        }
    }

    /// Returns a number from 0 to `limit` - 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}
