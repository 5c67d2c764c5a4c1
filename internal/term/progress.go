// SPDX-License-Identifier: Apache-2.0

package term

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// Item is how far one thing has come. Done counts what has ended, Failed what of it ended badly.
type Item struct {
	Name                string
	Total, Done, Failed int
	Unit                string // what is counted, with a space before it; may be empty
}

func (i Item) counts() string {
	if i.Failed > 0 {
		return fmt.Sprintf("%d/%d%s done, %d failed", i.Done, i.Total, i.Unit, i.Failed)
	}
	return fmt.Sprintf("%d/%d%s done", i.Done, i.Total, i.Unit)
}

// Progress shows how far several items have come. It is for one goroutine.
type Progress struct {
	printer printer
	last    map[string]Item
}

// printer shows items. It is told only of changes.
type printer interface {
	show(Item)
	close()
}

// NewProgress shows progress on w: a bar for each item when w is a terminal, otherwise a line for each change.
func NewProgress(w io.Writer) *Progress {
	if f, ok := w.(*os.File); ok && canDraw(f) {
		return newProgress(newBars(w))
	}
	return newProgress(lines{w})
}

// canDraw reports whether f is a terminal that can move its cursor. One that knows no width would show nothing at all.
func canDraw(f *os.File) bool {
	width, _, err := term.GetSize(int(f.Fd()))
	return err == nil && width > 0 && os.Getenv("TERM") != "dumb"
}

// NoProgress shows nothing.
func NoProgress() *Progress { return newProgress(silence{}) }

func newProgress(p printer) *Progress { return &Progress{printer: p, last: map[string]Item{}} }

// Update tells how far the item of that name has come.
func (p *Progress) Update(i Item) {
	if p.last[i.Name] == i {
		return
	}
	p.last[i.Name] = i
	p.printer.show(i)
}

// Close leaves the last state on the screen and waits until it is there. Nothing may be shown afterwards.
func (p *Progress) Close() { p.printer.close() }

type silence struct{}

func (silence) show(Item) {}
func (silence) close()    {}

type lines struct{ w io.Writer }

func (l lines) show(i Item) { fmt.Fprintf(l.w, "%s  %s\n", Clean(i.Name), i.counts()) }
func (lines) close()        {}

const barWidth = 60

// bars draws with goroutines of its own, which close ends.
type bars struct {
	container *mpb.Progress
	items     map[string]*bar
}

type bar struct {
	*mpb.Bar
	counts atomic.Pointer[string] // what the drawing goroutine shows
}

func newBars(w io.Writer, options ...mpb.ContainerOption) *bars {
	options = append(options, mpb.WithOutput(w), mpb.WithWidth(barWidth))
	return &bars{container: mpb.New(options...), items: map[string]*bar{}}
}

func (b *bars) show(i Item) {
	item := b.items[i.Name]
	counts := i.counts()
	if item == nil {
		item = &bar{}
		item.counts.Store(&counts)
		item.Bar = b.container.AddBar(int64(i.Total),
			mpb.PrependDecorators(decor.Name(Clean(i.Name))),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return *item.counts.Load() })))
		b.items[i.Name] = item
	}
	item.counts.Store(&counts)
	item.SetCurrent(int64(i.Done))
}

func (b *bars) close() {
	for _, item := range b.items {
		item.Abort(false) // without effect on a bar that is full
	}
	b.container.Wait()
}
