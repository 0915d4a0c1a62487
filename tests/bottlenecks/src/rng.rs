//! Numbers drawn from a seed, the same on every machine.

use std::time::Duration;

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Several words make one seed; each order of them another.
    pub fn of(words: &[u64]) -> Rng {
        let mut rng = Rng(0x9E37_79B9_7F4A_7C15);
        for word in words {
            rng.0 ^= *word;
            rng.0 = rng.next();
        }
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// In `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// Both ends are possible.
    pub fn pick(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    pub fn normal(&mut self) -> f64 {
        let (one, two) = (1.0 - self.unit(), self.unit());
        (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()
    }

    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// The length, give or take this part of it.
    pub fn about(&mut self, length: Duration, part: f64) -> Duration {
        length.mul_f64(self.between(1.0 - part, 1.0 + part))
    }

    /// A word that means nothing.
    pub fn word(&mut self) -> String {
        const START: [&str; 16] = [
            "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "dr", "st",
        ];
        const VOWELS: [&str; 6] = ["a", "e", "i", "o", "u", "y"];
        let mut word = String::new();
        for _ in 0..self.pick(2, 4) {
            word += START[self.pick(0, START.len() - 1)];
            word += VOWELS[self.pick(0, VOWELS.len() - 1)];
        }
        word
    }
}

/// A number that depends on the letters only (FNV-1a).
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
