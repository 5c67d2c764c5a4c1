// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRedraw draws what saved results have points for, and nothing else.
func TestRedraw(t *testing.T) {
	t.Parallel()
	dir, file := filepath.Join(t.TempDir(), "images"), filepath.Join(t.TempDir(), "results.json")
	r := report{out: io.Discard}
	for _, v := range []result{
		{Name: "delivery/1000/from-call", Value: 900},
		{Name: "delivery/100/from-call", Value: 100},
		{Name: "delivery/1000/floor", Value: 700},
		{Name: "delivery/100/floor", Value: 75},
		{Name: "delivery/100/from-answer", Value: 90}, // one point is no line
		{Name: "delivery/100/ratio", Value: 1.2},
		{Name: "delivery/1000/ratio", Value: 1.3},
		{Name: "memory/1000/server", Value: 90},
	} {
		r.print(v)
	}
	if err := r.save(file); err != nil {
		t.Fatal(err)
	}
	args := []string{"-redraw", file, "-images", dir}
	if err := run(t.Context(), args, strings.NewReader(""), io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 || list[0].Name() != "delivery-time.svg" {
		t.Fatalf("drew %v, %v", list, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "delivery-time.svg"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for want, times := range map[string]int{
		"Waybill, from the call": 1, "Waybill, from its answer": 0, "floor: ": 1,
		"<polyline ": 4, "<circle ": 3, // two lines with a sample of each in the legend; two points and theirs
		">100<": 2, ">1,000<": 2, ">agents<": 1, // both axes go from 50 or 100 to 1,000
	} {
		if got := strings.Count(text, want); got != times {
			t.Errorf("%q is there %d times, want %d", want, got, times)
		}
	}
	if err := drawAll(dir, nil); err == nil {
		t.Error("draws nothing, and says nothing")
	}
}

// TestSVG draws each plot with values of very different sizes. It must be XML, and everything must be inside: an average
// letter is taken to be 0.58 of the font size, which few texts reach.
func TestSVG(t *testing.T) {
	t.Parallel()
	const letter = 0.58
	for _, values := range [][]float64{{0.04, 3}, {5, 5}, {0.9, 1.1}, {1, 100_000}, {0.001, 1e7}} {
		for _, p := range plots() {
			for i := range p.series {
				p.series[i].points = []point{{10_000, values[0]}, {1_000_000, values[1]}}
			}
			text := p.svg()
			width, height := attribute(t, text, "width"), attribute(t, text, "height")
			inside := func(x, y float64) {
				if !(x >= 0 && x <= width && y >= 0 && y <= height) {
					t.Errorf("%s with %v: %g, %g is outside", p.file, values, x, y)
				}
			}
			each(t, text, func(e xml.StartElement, inner string) {
				a := map[string]float64{}
				for _, at := range e.Attr {
					a[at.Name.Local], _ = strconv.ParseFloat(at.Value, 64) // those that are numbers
				}
				switch e.Name.Local {
				case "text":
					long := letter * a["font-size"] * float64(len([]rune(inner)))
					start := a["x"]
					switch {
					case strings.Contains(text, ">"+inner+"</text>") && inner == p.yLabel: // turned
						inside(a["x"], a["y"]-long/2)
						inside(a["x"], a["y"]+long/2)
						return
					case slices.Contains(e.Attr, xml.Attr{Name: xml.Name{Local: "text-anchor"}, Value: "middle"}):
						start -= long / 2
					case slices.Contains(e.Attr, xml.Attr{Name: xml.Name{Local: "text-anchor"}, Value: "end"}):
						start -= long
					}
					inside(start, a["y"]-a["font-size"])
					inside(start+long, a["y"]+a["font-size"]/4)
				case "circle":
					inside(a["cx"], a["cy"])
				case "line":
					inside(a["x1"], a["y1"])
					inside(a["x2"], a["y2"])
				case "polyline", "polygon":
					for pair := range strings.FieldsSeq(e.Attr[0].Value) {
						x, y, _ := strings.Cut(pair, ",")
						fx, err1 := strconv.ParseFloat(x, 64)
						fy, err2 := strconv.ParseFloat(y, 64)
						if err := errors.Join(err1, err2); err != nil {
							t.Error(err)
						}
						inside(fx, fy)
					}
				}
			})
		}
	}
}

// attribute returns that of the picture.
func attribute(t *testing.T, svg, name string) float64 {
	t.Helper()
	_, rest, _ := strings.Cut(svg, " "+name+`="`)
	number, _, _ := strings.Cut(rest, `"`)
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// each calls do with every element and the text in it.
func each(t *testing.T, svg string, do func(e xml.StartElement, inner string)) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	var open xml.StartElement
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, svg)
		}
		switch v := token.(type) {
		case xml.StartElement:
			if open = v.Copy(); v.Name.Local != "text" {
				do(open, "")
			}
		case xml.CharData:
			if open.Name.Local == "text" && strings.TrimSpace(string(v)) != "" {
				do(open, string(v))
			}
		}
	}
}

func TestAxis(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		least, most float64
		want        []string
	}{
		{100, 10_000, []string{"100", "200", "500", "1,000", "2,000", "5,000", "10,000"}},
		{0.06, 0.9, []string{"0.05", "0.1", "0.2", "0.5", "1"}},
		{7, 7, []string{"5", "10"}},
		{0.003, 9e6, []string{"0.002", "0.01", "0.1", "1", "10", "100", "1,000", "10,000", "100,000", "1,000,000", "10,000,000"}},
	} {
		a := newAxis([]point{{x: c.most}, {x: c.least}}, func(p point) float64 { return p.x }, 300, 100)
		var got []string
		for _, tick := range a.ticks {
			got = append(got, grouped(tick))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%g to %g: %v, want %v", c.least, c.most, got, c.want)
		}
		if first, last := a.at(a.ticks[0]), a.at(a.ticks[len(a.ticks)-1]); first != 300 || math.Abs(last-100) > 1e-9 {
			t.Errorf("%g to %g is drawn from %g to %g", c.least, c.most, first, last)
		}
	}
}
