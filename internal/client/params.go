// SPDX-License-Identifier: Apache-2.0

package client

import (
	"net/url"
	"strconv"
	"time"

	"github.com/openwaybill/waybill"
)

// params collects the parameters of one call. What is empty is not sent: to the API that is the same.
type params url.Values

func (p params) set(name, value string) {
	if value != "" {
		url.Values(p).Set(name, value)
	}
}

func (p params) setInt(name string, value int64) {
	if value != 0 {
		p.set(name, strconv.FormatInt(value, 10))
	}
}

func (p params) setTrue(name string, value bool) {
	if value {
		p.set(name, "true")
	}
}

// setText sets a parameter for which the empty text is a value too. Nil is not sent.
func (p params) setText(name string, value *string) {
	if value != nil {
		url.Values(p).Set(name, *value)
	}
}

func (p params) setTime(name string, value time.Time) {
	if !value.IsZero() {
		p.set(name, value.UTC().Format(time.RFC3339))
	}
}

func (p params) setInstances(ids []waybill.InstanceID) { setList(p, "InstanceId", ids) }

func setList[T ~string](p params, name string, values []T) {
	for i, v := range values {
		p.set(name+"."+strconv.Itoa(i+1), string(v))
	}
}

func (p params) setTags(tags []waybill.Tag) { p.setTagList("Tag", tags) }

func (p params) setTagList(name string, tags []waybill.Tag) {
	for i, t := range tags {
		prefix := name + "." + strconv.Itoa(i+1)
		p.set(prefix+".Key", t.Key)
		p.set(prefix+".Value", t.Value)
	}
}

func (p params) setPaging(page Paging) {
	p.setInt("MaxResults", int64(page.MaxResults))
	p.set("NextToken", page.NextToken)
}

// setMarker asks for a page as RAM has it.
func (p params) setMarker(page Paging) {
	p.setInt("MaxItems", int64(page.MaxResults))
	p.set("Marker", page.NextToken)
}

// marked is how answers of RAM say that there is more.
type marked struct {
	IsTruncated bool
	Marker      string
}

func (m marked) next() string {
	if !m.IsTruncated {
		return ""
	}
	return m.Marker
}
