//! Messages of the method `gssapi-with-mic` (RFC 4462 section 3), for Kerberos alone.

use super::number;
use crate::cursor::{Reader, Writer};
use crate::error::{DecodeError, DecodeKind};
use crate::limits::{GSSAPI_MECHANISMS_MAX, GSSAPI_TOKEN_BYTES_MAX};
use crate::message::userauth::CONNECTION_SERVICE;

/// The method's name.
pub const METHOD: &str = "gssapi-with-mic";

/// Kerberos 5 (RFC 4121 section 1), an object identifier in DER with its tag and length.
pub const KERBEROS: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";

/// Offers Kerberos to a server.
#[must_use]
pub fn request(user: &[u8]) -> Vec<u8> {
    let mut writer = attempt(user);
    writer.u32(1).string(KERBEROS);
    writer.into_bytes()
}

/// Whether Kerberos is among the mechanisms of an attempt.
pub(super) fn offers_kerberos(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    let offset = reader.offset();
    let count = usize::try_from(reader.u32("number of mechanisms")?).unwrap_or(usize::MAX);
    if count > GSSAPI_MECHANISMS_MAX {
        let kind = DecodeKind::TooLong { length: count, limit: GSSAPI_MECHANISMS_MAX };
        return Err(DecodeError { field: "number of mechanisms", offset, kind });
    }
    let mut offers = false;
    for _index in 0..count {
        offers |= reader.string("mechanism")? == KERBEROS;
    }
    Ok(offers)
}

/// Takes Kerberos of the mechanisms that were offered.
#[must_use]
pub fn response() -> Vec<u8> {
    with_string(number::USERAUTH_60, KERBEROS)
}

/// A token of the context that is being set up.
#[must_use]
pub fn token(token: &[u8]) -> Vec<u8> {
    with_string(number::USERAUTH_GSSAPI_TOKEN, token)
}

/// The proof that who set up the context is at this end of the connection.
#[must_use]
pub fn mic(mic: &[u8]) -> Vec<u8> {
    with_string(number::USERAUTH_GSSAPI_MIC, mic)
}

/// What the proof covers (RFC 4462 section 3.5).
#[must_use]
pub fn covered(session_id: &[u8], user: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.string(session_id).raw(attempt(user).as_bytes());
    writer.into_bytes()
}

/// The one string of a mechanism, a token or a proof.
pub fn parse(message: &[u8]) -> Result<&[u8], DecodeError> {
    let mut reader = Reader::new(message);
    reader.u8("message number")?;
    let offset = reader.offset();
    let string = reader.string("token")?;
    reader.finish()?;
    if string.len() > GSSAPI_TOKEN_BYTES_MAX {
        let kind = DecodeKind::TooLong { length: string.len(), limit: GSSAPI_TOKEN_BYTES_MAX };
        return Err(DecodeError { field: "token", offset, kind });
    }
    Ok(string)
}

/// The start of an attempt.
fn attempt(user: &[u8]) -> Writer {
    let mut writer = Writer::message(number::USERAUTH_REQUEST);
    writer.string(user).string(CONNECTION_SERVICE).string(METHOD.as_bytes());
    writer
}

fn with_string(number: u8, string: &[u8]) -> Vec<u8> {
    let mut writer = Writer::message(number);
    writer.string(string);
    writer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::userauth::{Method, Request};

    #[test]
    fn mechanisms_are_looked_through_and_bounded() {
        let offer = |mechanisms: &[&[u8]]| {
            let mut writer = attempt(b"root");
            writer.u32(u32::try_from(mechanisms.len()).unwrap());
            for mechanism in mechanisms {
                writer.string(mechanism);
            }
            writer.into_bytes()
        };
        let ntlm: &[u8] = b"\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";
        let offered = |message: &[u8]| match Request::parse(message).map(|request| request.method) {
            Ok(Method::Gssapi { kerberos }) => Some(kerberos),
            Ok(_) | Err(_) => None,
        };
        assert_eq!(offered(&request(b"root")), Some(true));
        assert_eq!(offered(&offer(&[])), Some(false));
        assert_eq!(offered(&offer(&[ntlm])), Some(false));
        assert_eq!(offered(&offer(&[ntlm, KERBEROS])), Some(true));
        assert_eq!(offered(&offer(&[KERBEROS; GSSAPI_MECHANISMS_MAX])), Some(true));
        assert_eq!(offered(&offer(&[KERBEROS; GSSAPI_MECHANISMS_MAX + 1])), None);
        let message = offer(&[ntlm, KERBEROS]);
        for length in 0..message.len() {
            assert!(Request::parse(&message[..length]).is_err(), "cut at {length}");
        }
        assert!(Request::parse(&[message.as_slice(), b"x"].concat()).is_err(), "a byte too many");
    }

    #[test]
    fn strings_are_read_back_and_bounded() {
        assert_eq!(parse(&response()).unwrap(), KERBEROS);
        assert_eq!(parse(&mic(b"proof")).unwrap(), b"proof");
        let longest = vec![7; GSSAPI_TOKEN_BYTES_MAX];
        assert_eq!(parse(&token(&longest)).unwrap(), longest);
        assert!(parse(&token(&vec![7; GSSAPI_TOKEN_BYTES_MAX + 1])).is_err());
        assert!(parse(&token(b"x")[..4]).is_err());
    }
}
