//! Random moments and choices that a seed repeats.

use std::env;

/// Small, fast, and the same on every machine (xorshift64*).
pub struct Random(u64);

impl Random {
    /// Starts from `SEED`, or from the default, and prints which.
    pub fn seeded() -> Random {
        let seed = env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_251_122);
        println!("SEED={seed}");
        Random(seed)
    }

    /// Starts another sequence, which this one determines.
    pub fn fork(&mut self) -> Random {
        Random(self.below(u64::MAX >> 1) | 1)
    }

    /// Returns a number from 0 to `limit` - 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}
