// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

type point struct{ x, y float64 }

// Sizes of a picture, in pixels.
const (
	svgWidth   = 760
	svgPlot    = 330 // height of the part with the lines
	svgLeft    = 96
	svgRight   = 44
	svgBottom  = 58
	svgHead    = 40 // the title
	svgLegend  = 21 // each line of the legend
	svgText    = 14 // font size
	svgTick    = 13
	markRadius = 4.5
	maxTicks   = 12
)

// Colours that those who do not see all colours can tell apart, on white whatever the page has: floors are grey.
var (
	colours      = []string{"#0b62a8", "#c2480a"}
	floorColours = []string{"#555555", "#909090"}
)

// svg draws the plot with logarithmic axes. Each series must have points, above 0.
func (p *plot) svg() string {
	var points []point
	for _, s := range p.series {
		points = append(points, s.points...)
	}
	top := svgHead + svgLegend*len(p.series) + 12
	height := top + svgPlot + svgBottom
	xs := newAxis(points, func(p point) float64 { return p.x }, svgLeft, svgWidth-svgRight)
	ys := newAxis(points, func(p point) float64 { return p.y }, float64(top+svgPlot), float64(top))

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" `+
		`font-family="Helvetica, Arial, sans-serif">`+"\n", svgWidth, height, svgWidth, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(p.title))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", svgWidth, height)
	label(&b, svgLeft, 27, 17, "start", `font-weight="bold"`, p.title)

	for _, t := range xs.ticks {
		line(&b, xs.at(t), float64(top), xs.at(t), float64(top+svgPlot), "#dddddd")
		label(&b, xs.at(t), float64(top+svgPlot+20), svgTick, "middle", "", grouped(t))
	}
	for _, t := range ys.ticks {
		line(&b, svgLeft, ys.at(t), svgWidth-svgRight, ys.at(t), "#dddddd")
		label(&b, svgLeft-9, ys.at(t)+svgTick/3, svgTick, "end", "", grouped(t))
	}
	fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#777777"/>`+"\n",
		svgLeft, top, svgWidth-svgLeft-svgRight, svgPlot)
	label(&b, float64(svgLeft+svgWidth-svgRight)/2, float64(height-14), svgText, "middle", "", p.xLabel)
	middle := float64(top) + svgPlot/2
	label(&b, 22, middle, svgText, "middle", fmt.Sprintf(`transform="rotate(-90 22 %s)"`, pixels(middle)), p.yLabel)

	ours, floors := 0, 0
	for i, s := range p.series {
		colour, dash := colours[ours%len(colours)], ""
		if s.floor {
			colour, dash = floorColours[floors%len(floorColours)], ` stroke-dasharray="7 4"`
			floors++
		} else {
			ours++
		}
		var path []string
		for _, q := range s.points {
			path = append(path, pixels(xs.at(q.x))+","+pixels(ys.at(q.y)))
		}
		style := fmt.Sprintf(`fill="none" stroke="%s" stroke-width="2.2"%s`, colour, dash)
		fmt.Fprintf(&b, `<polyline points="%s" %s/>`+"\n", strings.Join(path, " "), style)
		for _, q := range s.points {
			mark(&b, i, xs.at(q.x), ys.at(q.y), colour)
		}
		y := float64(svgHead + svgLegend*i + 8)
		fmt.Fprintf(&b, `<polyline points="%d,%s %d,%s" %s/>`+"\n", svgLeft, pixels(y), svgLeft+44, pixels(y), style)
		mark(&b, i, svgLeft+22, y, colour)
		label(&b, svgLeft+54, y+5, svgText, "start", "", s.label)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// axis is logarithmic, from its first tick to its last.
type axis struct {
	ticks    []float64
	from, to float64 // pixels
}

// newAxis has the points between its first tick and its last. Ticks are at 1, 2 and 5 times the powers of ten, or between
// the ends only at the powers if they would be too many.
func newAxis(points []point, of func(point) float64, from, to float64) axis {
	least, most := math.Inf(1), 0.0
	for _, p := range points {
		least, most = min(least, of(p)), max(most, of(p))
	}
	var all []float64
	for exp := math.Floor(math.Log10(least)); exp <= math.Ceil(math.Log10(most))+1; exp++ {
		for _, times := range []float64{1, 2, 5} {
			all = append(all, times*math.Pow(10, exp))
		}
	}
	low := 0
	for all[low+1] <= least {
		low++
	}
	high := low + 1
	for all[high] < most {
		high++
	}
	ticks := all[low : high+1]
	if len(ticks) > maxTicks {
		ticks = slices.DeleteFunc(slices.Clone(ticks), func(t float64) bool {
			return t != all[low] && t != all[high] && !isPowerOfTen(t)
		})
	}
	return axis{ticks, from, to}
}

func isPowerOfTen(v float64) bool {
	exp := math.Log10(v)
	return math.Abs(exp-math.Round(exp)) < 1e-9
}

// at returns where v is, in pixels.
func (a *axis) at(v float64) float64 {
	low, high := math.Log(a.ticks[0]), math.Log(a.ticks[len(a.ticks)-1])
	return a.from + (math.Log(v)-low)/(high-low)*(a.to-a.from)
}

func label(b *strings.Builder, x, y float64, size int, anchor, more, text string) {
	fmt.Fprintf(b, `<text x="%s" y="%s" font-size="%d" fill="#222222" text-anchor="%s" %s>%s</text>`+"\n",
		pixels(x), pixels(y), size, anchor, more, html.EscapeString(text))
}

func line(b *strings.Builder, x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(b, `<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="%s"/>`+"\n",
		pixels(x1), pixels(y1), pixels(x2), pixels(y2), colour)
}

// mark draws a point of the series with this number: each has a shape of its own.
func mark(b *strings.Builder, number int, x, y float64, colour string) {
	const r = markRadius
	var corners []point
	switch number % 4 {
	case 0:
		fmt.Fprintf(b, `<circle cx="%s" cy="%s" r="%s" fill="%s"/>`+"\n", pixels(x), pixels(y), pixels(r), colour)
		return
	case 1:
		corners = []point{{-r, -r}, {r, -r}, {r, r}, {-r, r}}
	case 2:
		corners = []point{{0, -1.3 * r}, {1.2 * r, r}, {-1.2 * r, r}}
	case 3:
		corners = []point{{0, -1.4 * r}, {1.4 * r, 0}, {0, 1.4 * r}, {-1.4 * r, 0}}
	}
	var list []string
	for _, c := range corners {
		list = append(list, pixels(x+c.x)+","+pixels(y+c.y))
	}
	fmt.Fprintf(b, `<polygon points="%s" fill="%s"/>`+"\n", strings.Join(list, " "), colour)
}

func pixels(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

// grouped writes a tick, with commas between thousands.
func grouped(v float64) string {
	text := strconv.FormatFloat(v, 'g', 1, 64) // a tick has one digit that is not 0; this rounds what binary adds
	v, _ = strconv.ParseFloat(text, 64)
	text = strconv.FormatFloat(v, 'f', -1, 64)
	for at := len(text) - 3; v >= 1000 && at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
