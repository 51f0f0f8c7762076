//! What we ask: properties, who is there, and to be told of changes. There is nothing else to ask with.

use bacnet_rs::encoding::EncodingError;
use bacnet_rs::object::PropertyIdentifier;
use bacnet_rs::service::{
    ConfirmedServiceChoice, PropertyReference, ReadAccessSpecification,
    ReadPropertyMultipleRequest, ReadPropertyRequest, SubscribeCovRequest, WhoIsRequest,
};

use super::ObjectId;

/// What can be asked for. What changes a device is not among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// One property.
    ReadProperty,
    /// Many properties.
    ReadPropertyMultiple,
    /// To be told of changes.
    SubscribeCov,
}

/// The properties that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Property {
    /// The value.
    PresentValue,
    /// In alarm, fault, overridden, out of service.
    StatusFlags,
    /// Why a value cannot be relied on.
    Reliability,
    /// What the value is measured in.
    Units,
    /// What people call the object.
    ObjectName,
    /// What people say about it.
    Description,
    /// All objects of a device; an array.
    ObjectList,
    /// The longest message that a device takes.
    ApduBytesMax,
    /// Who made the device.
    VendorName,
    /// What the device is.
    ModelName,
}

impl Service {
    /// As bacnet-rs knows it.
    pub(in crate::thermal::bacnet) const fn choice(self) -> ConfirmedServiceChoice {
        match self {
            Self::ReadProperty => ConfirmedServiceChoice::ReadProperty,
            Self::ReadPropertyMultiple => ConfirmedServiceChoice::ReadPropertyMultiple,
            Self::SubscribeCov => ConfirmedServiceChoice::SubscribeCOV,
        }
    }
}

impl Property {
    /// Its number in the standard.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::PresentValue => 85,
            Self::StatusFlags => 111,
            Self::Reliability => 103,
            Self::Units => 117,
            Self::ObjectName => 77,
            Self::Description => 28,
            Self::ObjectList => 76,
            Self::ApduBytesMax => 62,
            Self::VendorName => 121,
            Self::ModelName => 70,
        }
    }

    fn foreign(self) -> PropertyIdentifier {
        PropertyIdentifier::from(self.number())
    }
}

/// The question for one property, or for one element of it.
///
/// # Errors
/// When bacnet-rs cannot write it, which no object that we can name leads to.
pub fn property_of(
    object: ObjectId,
    property: Property,
    index: Option<u32>,
) -> Result<Vec<u8>, EncodingError> {
    let mut bytes = Vec::new();
    let mut request = ReadPropertyRequest::new(object.foreign(), property.foreign());
    request.property_array_index = index;
    request.encode(&mut bytes)?;
    Ok(bytes)
}

/// The question for properties of objects, all at once.
///
/// # Errors
/// As [`property_of`].
pub fn properties_of(asked: &[(ObjectId, Vec<Property>)]) -> Result<Vec<u8>, EncodingError> {
    let specification = |(object, properties): &(ObjectId, Vec<Property>)| {
        let properties = properties.iter().map(|property| property.foreign());
        ReadAccessSpecification::new(
            object.foreign(),
            properties.map(PropertyReference::new).collect(),
        )
    };
    let mut bytes = Vec::new();
    ReadPropertyMultipleRequest::new(asked.iter().map(specification).collect())
        .encode(&mut bytes)?;
    Ok(bytes)
}

/// The question who is there, among devices of these instances or among all.
///
/// # Errors
/// As [`property_of`].
pub fn who_is(among: Option<(u32, u32)>) -> Result<Vec<u8>, EncodingError> {
    let mut bytes = Vec::new();
    let request = match among {
        Some((low, high)) => WhoIsRequest::for_range(low, high),
        None => WhoIsRequest::new(),
    };
    request.encode(&mut bytes)?;
    Ok(bytes)
}

/// The request to be told of changes of an object for so many seconds.
///
/// # Errors
/// As [`property_of`].
pub fn cov(
    process: u32,
    object: ObjectId,
    is_confirmed: bool,
    lifetime_s: u32,
) -> Result<Vec<u8>, EncodingError> {
    let mut bytes = Vec::new();
    SubscribeCovRequest::with_lifetime(process, object.foreign(), is_confirmed, lifetime_s)
        .encode(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::thermal::bacnet::wire::{Elements, Tag};

    proptest! {
        #[test]
        fn a_question_reads_back_as_it_was_asked(bits: u32, index: Option<u32>) {
            let object = ObjectId::from_bits(bits);
            let bytes = property_of(object, Property::ObjectList, index).unwrap();
            let read = ReadPropertyRequest::decode(&bytes).unwrap();
            prop_assert_eq!(read.object_identifier, object.foreign());
            prop_assert_eq!(u32::from(read.property_identifier), 76);
            prop_assert_eq!(read.property_array_index, index);
        }

        #[test]
        fn a_range_of_devices_reads_back(low in 0u32..4_194_303, high in 0u32..4_194_303) {
            let read = WhoIsRequest::decode(&who_is(Some((low, high))).unwrap()).unwrap();
            prop_assert_eq!(read, WhoIsRequest::for_range(low, high));
        }
    }

    #[test]
    fn many_properties_are_asked_for_at_once() {
        let ai: ObjectId = "AI,3".parse().unwrap();
        let asked = [
            (ai, vec![Property::PresentValue, Property::StatusFlags]),
            (ObjectId::device(9), vec![Property::ObjectName]),
        ];
        let bytes = properties_of(&asked).unwrap();
        assert_eq!(
            bytes,
            [
                0x0C, 0, 0, 0, 3, 0x1E, 0x09, 85, 0x09, 111, 0x1F, // AI,3
                0x0C, 2, 0, 0, 9, 0x1E, 0x09, 77, 0x1F,
            ]
        );
    }

    #[test]
    fn a_subscription_says_for_how_long() {
        let bytes = cov(7, "AI,3".parse().unwrap(), true, 300).unwrap();
        let mut elements = Elements::new(&bytes);
        let mut read = || {
            let element = elements.read().unwrap();
            (element.tag, element.content.to_vec())
        };
        assert_eq!(read(), (Tag::Context(0), vec![7]));
        assert_eq!(read(), (Tag::Context(1), vec![0, 0, 0, 3]));
        assert_eq!(read(), (Tag::Context(2), vec![1]));
        assert_eq!(read(), (Tag::Context(3), vec![1, 44]));
        assert!(elements.is_empty());
    }
}
