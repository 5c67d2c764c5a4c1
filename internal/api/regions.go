// SPDX-License-Identifier: Apache-2.0

package api

import "context"

// describeRegionsInput is checked and has no effect: all regions here offer all there is.
type describeRegionsInput struct {
	InstanceChargeType string `enum:"PrePaid|PostPaid|SpotWithPriceLimit|SpotAsPriceGo" fault:"Invalid.InstanceChargeType"`
	ResourceType       string `enum:"instance|disk|reservedinstance|scu" fault:"InvalidResourceType.NotFound"`
	AcceptLanguage     string `enum:"zh-CN|zh_TW|en-US|ja|fr|de|ko" fault:"InvalidAcceptLanguage.NotFound"`
}

type describeRegionsOutput struct {
	envelope
	Regions struct {
		Region list[region]
	}
}

type region struct {
	RegionId       string
	RegionEndpoint string `doc:"this server, so that tools that follow it stay here"`
	LocalName      string
	Status         string `doc:"always available"`
}

func (c *call) describeRegions(context.Context, *describeRegionsInput) (*describeRegionsOutput, error) {
	out := new(describeRegionsOutput)
	out.Regions.Region = collect(c.Regions(), func(id string) region {
		return region{RegionId: id, RegionEndpoint: c.host, LocalName: id, Status: "available"}
	})
	return out, nil
}
