/// All digits of `value` in hexadecimal: `0a` for a byte, `0000abcd` for 32 bits.
package func hex(_ value: some FixedWidthInteger & UnsignedInteger) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: value.bitWidth / 4 - digits.utf8.count) + digits
}
