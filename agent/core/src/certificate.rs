//! Reads from when to when a certificate (X.509, DER) is valid: all that an agent must know of its own one.
//!
//! Whether it is good is decided by the TLS library and by the other side; this only says when to ask for the next one.

use model::certificate::Validity;

/// Tags of DER, X.690.
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version of a certificate, RFC 5280 §4.1.
const VERSION: u8 = 0xa0;

/// From when to when the certificate is valid; `None` when this is no certificate.
#[must_use]
pub fn validity(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (body, _) = expect(certificate, SEQUENCE)?;
    let rest = expect(body, VERSION).map_or(body, |(_, rest)| rest);
    let (_, rest) = expect(rest, INTEGER)?;
    let (_algorithm, rest) = expect(rest, SEQUENCE)?;
    let (_issuer, rest) = expect(rest, SEQUENCE)?;
    let (times, _) = expect(rest, SEQUENCE)?;
    let (not_before_s, rest) = time(times)?;
    let (not_after_s, _) = time(rest)?;
    Some(Validity { not_before_s, not_after_s })
}

/// The content of the next element, which must have this tag, and what follows it.
fn expect(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(input)?;
    (found == tag).then_some((content, rest))
}

fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Certificates are far shorter than three bytes of length allow.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Seconds since the Unix epoch, and what follows. RFC 5280 §4.1.2.5: always with seconds and `Z`.
fn time(input: &[u8]) -> Option<(u64, &[u8])> {
    let (tag, content, rest) = element(input)?;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, text) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let year: u64 = text[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let part = |at: usize| text[at..at + 2].parse::<u64>().ok();
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_epoch(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds, rest))
}

/// Howard Hinnant's `days_from_civil`, for years from 1970.
fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut out = vec![tag];
        match length {
            0..0x80 => out.push(length as u8),
            0x80..0x100 => out.extend([0x81, length as u8]),
            _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        out.extend(content);
        out
    }

    fn certificate(from: (u8, &str), to: (u8, &str), issuer: usize) -> Vec<u8> {
        let times = [wrap(from.0, from.1.as_bytes()), wrap(to.0, to.1.as_bytes())].concat();
        let version = wrap(VERSION, &wrap(INTEGER, &[2]));
        let issuer = wrap(SEQUENCE, &vec![7; issuer]);
        let serial = wrap(INTEGER, &[1, 2, 3]);
        let body = [version, serial, wrap(SEQUENCE, &[6, 0]), issuer, wrap(SEQUENCE, &times)].concat();
        wrap(SEQUENCE, &wrap(SEQUENCE, &body))
    }

    #[test]
    fn both_forms_of_time_are_read() {
        let der = certificate((UTC_TIME, "261121201816Z"), (GENERALIZED_TIME, "20500229000000Z"), 300);
        let read = validity(&der).unwrap();
        // date -u -d '2026-11-21 20:18:16' +%s; 2050 has no 29th of February: it is read as the 1st of March.
        assert_eq!(read.not_before_s, 1_795_292_296);
        assert_eq!(read.not_after_s, 2_529_705_600);
        let epoch = certificate((UTC_TIME, "700101000000Z"), (UTC_TIME, "491231235959Z"), 3);
        assert_eq!(validity(&epoch).unwrap(), Validity { not_before_s: 0, not_after_s: 2_524_607_999 });
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        let good = (UTC_TIME, "261121201816Z");
        for bad in ["261321201816Z", "261121201816", "2611212018Z", "26112120181éZ", "20261121201816Z"] {
            assert_eq!(validity(&certificate(good, (UTC_TIME, bad), 3)), None, "{bad}");
        }
        assert_eq!(validity(b"-----BEGIN CERTIFICATE-----"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = validity(&bytes);
        }

        #[test]
        fn a_cut_or_changed_certificate_makes_no_panic(cut in 0usize..400, at in 0usize..400, to: u8) {
            let mut der = certificate((UTC_TIME, "261121201816Z"), (UTC_TIME, "271121201816Z"), 300);
            let at = at.min(der.len() - 1);
            der[at] = to;
            let _ = validity(&der[..cut.min(der.len())]);
        }
    }
}
