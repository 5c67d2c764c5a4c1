// SPDX-License-Identifier: Apache-2.0

package waybill

import "strings"

// Selector chooses instances of a region by what they have, not by their IDs: those that match all that is set. Only
// registered instances can be chosen by it, not what was deregistered or quarantined.
type Selector struct {
	All           bool         // every instance, unless the others narrow it
	Name          string       // exactly or, with * or ? in it, a pattern in which case of Latin letters does not matter
	Activation    ActivationID // with which they enrolled
	ResourceGroup string
	Tags          []Tag // all of them; an empty value matches any
}

// Empty reports whether nothing is set, so that it chooses nothing.
func (s *Selector) Empty() bool {
	return !s.All && s.Name == "" && s.Activation == "" && s.ResourceGroup == "" && len(s.Tags) == 0
}

// Filter returns what s looks for in a region. It is for a Selector that is not empty.
func (s *Selector) Filter(region string) InstanceFilter {
	return InstanceFilter{
		Region: region, Name: s.Name, Activation: s.Activation, ResourceGroup: s.ResourceGroup, Tags: s.Tags,
	}
}

// String says in words what s looks for.
func (s *Selector) String() string {
	var parts []string
	if s.Name != "" {
		parts = append(parts, "the name "+s.Name)
	}
	if s.Activation != "" {
		parts = append(parts, "the activation "+string(s.Activation))
	}
	if s.ResourceGroup != "" {
		parts = append(parts, "the resource group "+s.ResourceGroup)
	}
	for _, t := range s.Tags {
		tag := "the tag " + t.Key
		if t.Value != "" {
			tag += "=" + t.Value
		}
		parts = append(parts, tag)
	}
	return strings.Join(parts, " and ")
}
