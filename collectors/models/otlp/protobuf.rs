//! Protobuf that is read where it lies: the fields of one message, one after the other.

/// The text is no protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is no protobuf")]
pub(super) struct Malformed;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A whole number; negative ones have their upper bits set.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// A message or a string.
    pub(super) const fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A whole number.
    pub(super) const fn varint(self) -> Option<u64> {
        match self {
            Self::Varint(number) => Some(number),
            _ => None,
        }
    }

    /// Eight bytes.
    pub(super) const fn fixed64(self) -> Option<u64> {
        match self {
            Self::Fixed64(number) => Some(number),
            _ => None,
        }
    }
}

/// Calls `each` with the number and the value of every field, in the order in which they were written.
pub(super) fn fields<'a, E: From<Malformed>>(
    message: &'a [u8],
    mut each: impl FnMut(u32, Value<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = message;
    while !rest.is_empty() {
        let (number, value) = field(&mut rest)?;
        each(number, value)?;
    }
    Ok(())
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Value<'a>), Malformed> {
    let key = u32::try_from(varint(rest)?).map_err(|_| Malformed)?;
    let (number, kind) = (key >> 3, key & 7);
    if number == 0 {
        return Err(Malformed);
    }
    let value = match kind {
        0 => Value::Varint(varint(rest)?),
        1 => Value::Fixed64(u64::from_le_bytes(array(rest)?)),
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| Malformed)?;
            let (bytes, after) = rest.split_at_checked(length).ok_or(Malformed)?;
            *rest = after;
            Value::Bytes(bytes)
        }
        5 => Value::Fixed32(u32::from_le_bytes(array(rest)?)),
        // Groups, which no message of OTLP has ever had.
        _ => return Err(Malformed),
    };
    Ok((number, value))
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    const BYTES_MAX: usize = 10;
    let mut number = 0_u64;
    for place in 0..BYTES_MAX {
        let (byte, after) = rest.split_first().ok_or(Malformed)?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * u32::try_from(place).unwrap_or(u32::MAX);
        // The tenth byte has one bit of the number.
        if place + 1 == BYTES_MAX && bits > 1 {
            return Err(Malformed);
        }
        number |= bits.wrapping_shl(shift);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (bytes, after) = rest.split_first_chunk().ok_or(Malformed)?;
    *rest = after;
    Ok(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        let mut read = Vec::new();
        fields(message, |number, value| {
            read.push((number, value));
            Ok::<_, Malformed>(())
        })?;
        Ok(read)
    }

    #[test]
    fn fields_are_read_in_order() {
        let message = [
            &[0x08, 0x96, 0x01][..],
            &[0x12, 2, 7, 8],
            &[0x19, 1, 0, 0, 0, 0, 0, 0, 0],
            &[0x25, 2, 0, 0, 0],
            &[
                0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[0x82, 0x01, 0],
        ]
        .concat();
        assert_eq!(
            read(&message).unwrap(),
            [
                (1, Value::Varint(150)),
                (2, Value::Bytes(&[7, 8])),
                (3, Value::Fixed64(1)),
                (4, Value::Fixed32(2)),
                (5, Value::Varint(u64::MAX)),
                (16, Value::Bytes(&[])),
            ]
        );
        assert_eq!(read(&[]), Ok(vec![]));
    }

    #[test]
    fn what_is_cut_off_or_impossible_is_refused() {
        for message in [
            &[0x08][..],
            &[0x08, 0x80],
            &[0x00, 0],
            &[0x12, 3, 7, 8],
            &[
                0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[0x19, 1, 0, 0],
            &[0x25, 1],
            &[0x0b],
            &[0x0f, 0],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
            ],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
        ] {
            assert_eq!(read(message), Err(Malformed), "{message:?}");
        }
    }
}
