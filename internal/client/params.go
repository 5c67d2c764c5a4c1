// SPDX-License-Identifier: Apache-2.0

package client

import (
	"net/url"
	"strconv"

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

func (p params) setInstances(ids []waybill.InstanceID) {
	for i, id := range ids {
		p.set("InstanceId."+strconv.Itoa(i+1), string(id))
	}
}

func (p params) setTags(tags []waybill.Tag) {
	for i, t := range tags {
		prefix := "Tag." + strconv.Itoa(i+1)
		p.set(prefix+".Key", t.Key)
		p.set(prefix+".Value", t.Value)
	}
}

func (p params) setPaging(page Paging) {
	p.setInt("MaxResults", int64(page.MaxResults))
	p.set("NextToken", page.NextToken)
}
