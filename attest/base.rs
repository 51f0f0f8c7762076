//! The signature base of RFC 9421: the lines that are signed, and the parameters that name them.

use sfv::{Dictionary, FieldType, InnerList, List, ListEntry};

/// Writes the signature base: one line for each covered component, then the parameters.
pub(crate) fn signature_base(components: &[(&str, &str)], parameters: &str) -> String {
    let mut base = String::new();
    for (name, value) in components {
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {parameters}"));
    base
}

/// Writes an inner list with its parameters in canonical form.
pub(crate) fn canonical_list(list: &InnerList) -> String {
    let members: List = vec![ListEntry::InnerList(list.clone())];
    members.serialize().unwrap_or_default()
}

/// Reads a dictionary that is written in canonical form; in any other form one value has many texts.
pub(crate) fn canonical_dictionary(value: &str) -> Option<Dictionary> {
    let dictionary: Dictionary = sfv::Parser::new(value).parse().ok()?;
    (dictionary.serialize().as_deref() == Some(value)).then_some(dictionary)
}

/// The authority as it is signed: lower case, without the default port of https.
pub(crate) fn canonical_authority(authority: &str) -> String {
    let lower = authority.to_ascii_lowercase();
    lower
        .strip_suffix(":443")
        .map(str::to_owned)
        .unwrap_or(lower)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;
    use crate::keys::SigningKey;

    /// RFC 9421, appendix B.2.6, with the key of B.1.4.
    #[test]
    fn the_vector_of_rfc_9421_b_2_6() {
        let seed = URL_SAFE_NO_PAD
            .decode("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU")
            .unwrap();
        let key = SigningKey::from_seed(&seed.try_into().unwrap()).unwrap();
        assert_eq!(
            URL_SAFE_NO_PAD.encode(key.verifying().as_bytes()),
            "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs"
        );

        let input = "sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
            \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
        let dictionary = canonical_dictionary(input).unwrap();
        let Some(ListEntry::InnerList(list)) = dictionary.get("sig-b26") else {
            panic!("no inner list")
        };
        let base = signature_base(
            &[
                ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
                ("@method", "POST"),
                ("@path", "/foo"),
                ("@authority", &canonical_authority("Example.com:443")),
                ("content-type", "application/json"),
                ("content-length", "18"),
            ],
            &canonical_list(list),
        );
        assert_eq!(
            base,
            "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\
             \"@method\": POST\n\
             \"@path\": /foo\n\
             \"@authority\": example.com\n\
             \"content-type\": application/json\n\
             \"content-length\": 18\n\
             \"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" \
             \"content-type\" \"content-length\");created=1618884473;keyid=\"test-key-ed25519\""
        );
        let signature = key.sign(base.as_bytes());
        assert_eq!(
            STANDARD.encode(signature),
            "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
        );
        assert!(key.verifying().verifies(base.as_bytes(), &signature));
    }

    const DIGEST: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
    const ANSWER: &str = "sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:";

    /// The base that the components and the parameters of this input lead to.
    fn base_of(input: &str, components: &[(&str, &str)]) -> String {
        let dictionary = canonical_dictionary(input).unwrap();
        let Some((_, ListEntry::InnerList(list))) = dictionary.first() else {
            panic!("no inner list")
        };
        signature_base(components, &canonical_list(list))
    }

    /// RFC 9421, appendix B.2.3: the widest of its bases.
    #[test]
    fn the_base_of_rfc_9421_b_2_3() {
        let base = base_of(
            "sig-b23=(\"date\" \"@method\" \"@path\" \"@query\" \"@authority\" \"content-type\" \
             \"content-digest\" \"content-length\");created=1618884473;keyid=\"test-key-rsa-pss\"",
            &[
                ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
                ("@method", "POST"),
                ("@path", "/foo"),
                ("@query", "?param=Value&Pet=dog"),
                ("@authority", &canonical_authority("example.com")),
                ("content-type", "application/json"),
                ("content-digest", DIGEST),
                ("content-length", "18"),
            ],
        );
        assert_eq!(
            base,
            format!(
                "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\
                 \"@query\": ?param=Value&Pet=dog\n\"@authority\": example.com\n\
                 \"content-type\": application/json\n\"content-digest\": {DIGEST}\n\
                 \"content-length\": 18\n\"@signature-params\": (\"date\" \"@method\" \"@path\" \"@query\" \
                 \"@authority\" \"content-type\" \"content-digest\" \"content-length\")\
                 ;created=1618884473;keyid=\"test-key-rsa-pss\""
            )
        );
    }

    /// RFC 9421, appendix B.2.4: the printed signature holds over the base that we write.
    #[test]
    fn the_vector_of_rfc_9421_b_2_4() {
        let base = base_of(
            "sig-b24=(\"@status\" \"content-type\" \"content-digest\" \"content-length\")\
             ;created=1618884473;keyid=\"test-key-ecc-p256\"",
            &[
                ("@status", "200"),
                ("content-type", "application/json"),
                ("content-digest", ANSWER),
                ("content-length", "23"),
            ],
        );
        let key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lfw0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==";
        let signature = "wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==";
        let [key, signature] = [key, signature].map(|text| STANDARD.decode(text).unwrap());
        // The point stands at the end of the DER form.
        let point = &key[key.len() - 65..];
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        assert!(key.verify(base.as_bytes(), &signature).is_ok());
        assert!(key.verify(&base.as_bytes()[1..], &signature).is_err());
    }

    /// RFC 9421, appendix B.2.5: the keyed hash over the base that we write is the printed one.
    #[test]
    fn the_vector_of_rfc_9421_b_2_5() {
        let base = base_of(
            "sig-b25=(\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"",
            &[
                ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
                ("@authority", "example.com"),
                ("content-type", "application/json"),
            ],
        );
        let secret = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret).unwrap());
        let tag = STANDARD.encode(hmac::sign(&key, base.as_bytes()));
        assert_eq!(tag, "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=");
    }

    #[test]
    fn authorities_have_one_form() {
        assert_eq!(canonical_authority("Dash.Example:443"), "dash.example");
        assert_eq!(
            canonical_authority("dash.example:8443"),
            "dash.example:8443"
        );
        assert_eq!(canonical_authority("[::1]:443"), "[::1]");
    }

    #[test]
    fn a_dictionary_has_one_form() {
        assert!(canonical_dictionary("a=1, b=2").is_some());
        for wrong in [
            "",
            "a=1,b=2",
            "a=1, a=1",
            "a=1;x=1;x=1",
            " a=1",
            "a=?1",
            "a=(1  2)",
        ] {
            assert!(canonical_dictionary(wrong).is_none(), "{wrong}");
        }
    }
}
