//! Prime numbers: the work that the built-in functions do for a living.

/// Whether `n` is prime.
///
/// Exact below 2^64: there, `machine-prime` follows trial division and a strong Fermat test to base 2 by a
/// Lucas test (the scheme of Baillie, Pomerance, Selfridge and Wagstaff) whose parameters its author chose
/// to reject every strong pseudoprime to base 2 in that range, of which there is a complete list (Feitsma
/// and Galway, 2013). Beyond, a test of the same scheme is no proof: no composite number is known that
/// passes one, but nobody has shown that there is none.
pub(super) fn is_prime(n: u128) -> bool {
    machine_prime::is_prime_128(n)
}

/// Whether `n` is prime, by dividing it by every odd number up to its square root: the yardstick of
/// Python's documentation of `ProcessPoolExecutor`.
pub(super) fn is_prime_by_trial(n: u64) -> bool {
    if n < 2 {
        return false;
    }
    if n == 2 {
        return true;
    }
    if n.is_multiple_of(2) {
        return false;
    }
    let root = n.isqrt();
    let mut divisor = 3;
    while divisor <= root {
        if n.is_multiple_of(divisor) {
            return false;
        }
        divisor += 2;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the example in Python's documentation of `ProcessPoolExecutor`.
    const EXAMPLE: [(u64, bool); 6] = [
        (112_272_535_095_293, true),
        (112_582_705_942_171, true),
        (112_272_535_095_293, true),
        (115_280_095_190_773, true),
        (115_797_848_077_099, true),
        (1_099_726_899_285_419, false),
    ];

    /// Exact below 3.3 * 10^24: Miller-Rabin to the first 13 primes (Sorenson and Webster, 2015).
    fn is_prime_by_witnesses(n: u128) -> bool {
        const WITNESSES: [u128; 13] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41];
        assert!(n < 3_317_044_064_679_887_385_961_981);
        if WITNESSES.contains(&n) {
            return true;
        }
        if n < 2 || WITNESSES.iter().any(|prime| n.is_multiple_of(*prime)) {
            return false;
        }
        let twos = (n - 1).trailing_zeros();
        WITNESSES.iter().all(|witness| {
            let mut power = raise(*witness, (n - 1) >> twos, n);
            if power == 1 || power == n - 1 {
                return true;
            }
            (1..twos).any(|_| {
                power = multiply(power, power, n);
                power == n - 1
            })
        })
    }

    fn raise(mut base: u128, mut exponent: u128, modulus: u128) -> u128 {
        let mut result = 1;
        while exponent > 0 {
            if exponent % 2 == 1 {
                result = multiply(result, base, modulus);
            }
            base = multiply(base, base, modulus);
            exponent /= 2;
        }
        result
    }

    /// The product modulo a modulus below 2^82, 40 bits of `b` at a time.
    fn multiply(a: u128, b: u128, modulus: u128) -> u128 {
        const BITS: u32 = 40;
        let mut product = 0;
        for shift in [2 * BITS, BITS, 0] {
            let digit = (b >> shift) & ((1 << BITS) - 1);
            product = (product << BITS) % modulus;
            product = (product + multiply_small(a, digit, modulus)) % modulus;
        }
        product
    }

    /// The product with a factor of 40 bits, of which 122 bits are the most.
    fn multiply_small(a: u128, digit: u128, modulus: u128) -> u128 {
        (a * digit) % modulus
    }

    #[test]
    fn example_numbers_are_judged_rightly_by_both() {
        for (n, prime) in EXAMPLE {
            assert_eq!(is_prime(n.into()), prime, "{n}");
            assert_eq!(is_prime_by_trial(n), prime, "{n}");
        }
    }

    #[test]
    fn small_numbers_are_as_the_sieve_says() {
        const BELOW: usize = 200_000;
        let mut composite = vec![false; BELOW];
        for n in 2..BELOW {
            (n * n..BELOW).step_by(n).for_each(|multiple| composite[multiple] = true);
        }
        for (n, composite) in composite.into_iter().enumerate() {
            let prime = n >= 2 && !composite;
            assert_eq!(is_prime(n as u128), prime, "{n}");
            assert_eq!(is_prime_by_trial(n as u64), prime, "{n}");
        }
    }

    #[test]
    fn strong_pseudoprimes_are_composite() {
        // Strong pseudoprimes to base 2 (OEIS A001262); squares of the two known Wieferich primes; the least
        // ones to the first 2, 3, … 12 prime bases (OEIS A014233); strong Lucas pseudoprimes (A217255).
        let composites: [u128; 28] = [
            2047,
            3277,
            4033,
            4681,
            8321,
            15841,
            29341,
            42799,
            49141,
            52633,
            65281,
            74665,
            80581,
            1_194_649,
            12_327_121,
            1_373_653,
            25_326_001,
            3_215_031_751,
            2_152_302_898_747,
            3_474_749_660_383,
            341_550_071_728_321,
            3_825_123_056_546_413_051,
            318_665_857_834_031_151_167_461,
            3_317_044_064_679_887_385_961_981,
            5459,
            5777,
            10877,
            16109,
        ];
        for n in composites {
            assert!(!is_prime(n), "{n}");
        }
    }

    #[test]
    fn numbers_around_the_word_size_are_judged_as_by_witnesses() {
        for n in (u64::MAX - 2000).into()..u128::from(u64::MAX) + 2000 {
            assert_eq!(is_prime(n), is_prime_by_witnesses(n), "{n}");
        }
        assert!(is_prime((u64::MAX - 58).into()), "2^64 - 59 is the largest prime of 64 bits");
        assert!(is_prime((1 << 64) + 13), "2^64 + 13 is the smallest above");
    }

    #[test]
    fn random_numbers_are_judged_as_by_witnesses() {
        let mut random = fastrand::Rng::with_seed(1);
        for bits in 40..82 {
            for _ in 0..100 {
                let n = random.u128(1 << (bits - 1)..1 << bits) | 1;
                let n = n.min(3_317_044_064_679_887_385_961_979);
                assert_eq!(is_prime(n), is_prime_by_witnesses(n), "{n}");
            }
        }
    }

    #[test]
    fn large_primes_are_prime() {
        for n in [(1 << 89) - 1, (1 << 107) - 1, (1 << 127) - 1, u128::MAX - 158] {
            assert!(is_prime(n), "{n}");
        }
    }

    #[test]
    fn squares_and_products_of_large_primes_are_composite() {
        let primes: [u128; 5] = [
            4_294_967_311,
            2_305_843_009_213_693_951,
            (1 << 64) - 59,
            (1 << 63) - 25,
            1_000_000_000_000_000_003,
        ];
        for p in primes {
            assert!(is_prime(p), "{p}");
            for q in primes {
                assert!(!is_prime(p * q), "{p} * {q}");
            }
        }
        assert!(!is_prime(u128::MAX));
        assert!(!is_prime(1 << 127));
    }
}
