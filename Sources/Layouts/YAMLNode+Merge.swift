extension YAMLNode {
  /// Merges this value into `base`: mappings member by member; anything else replaces the base's value,
  /// and `null` removes a member of the base.
  ///
  /// An entry under `tensors` replaces the base's entry whole, and `default: null` is a default.
  func merged(over base: YAMLNode) -> YAMLNode {
    guard let own = members, var members = base.members else { return self }
    for member in own {
      guard let number = members.firstIndex(where: { $0.key == member.key }) else {
        members.append(member)
        continue
      }
      if member.value.isNull, member.key != "default" {
        members.remove(at: number)
      } else if member.key == "tensors", let tensors = member.value.members {
        members[number].keyPlace = member.keyPlace
        members[number].value = YAMLNode.replacing(members[number].value, tensors, member.value)
      } else {
        members[number].keyPlace = member.keyPlace
        members[number].value = member.value.merged(over: members[number].value)
      }
    }
    return YAMLNode(content: .mapping(members), place: place)
  }

  /// The members of `base` with those of `own` in their places.
  private static func replacing(_ base: YAMLNode, _ own: [Member], _ node: YAMLNode) -> YAMLNode {
    guard var members = base.members else { return node }
    for member in own {
      let number = members.firstIndex { $0.key == member.key }
      switch (number, member.value.isNull) {
      case (let number?, true): members.remove(at: number)
      case (let number?, false): members[number] = member
      case (nil, _): members.append(member)
      }
    }
    return YAMLNode(content: .mapping(members), place: node.place)
  }

  /// Whether it is a plain `null`.
  var isNull: Bool {
    if case .scalar(let text, isPlain: true) = content {
      ["", "~", "null", "Null", "NULL"].contains(text)
    } else {
      false
    }
  }

  /// The same without a member.
  func without(_ key: String) -> YAMLNode {
    guard let members else { return self }
    return YAMLNode(content: .mapping(members.filter { $0.key != key }), place: place)
  }

  /// The same with another value for a member that it has.
  func replacing(_ key: String, by value: YAMLNode) -> YAMLNode {
    guard var members, let number = members.firstIndex(where: { $0.key == key }) else {
      return self
    }
    members[number].value = value
    return YAMLNode(content: .mapping(members), place: place)
  }
}
