-- Under Quarto, style.css does not reach the PDF: draw the answer box and the verdicts there.
if not FORMAT:match("typst") then return {} end

local colours = { supported = "#0b5c93", refuted = "#a83a10", undecided = "#5b616b", notrun = "#5b616b" }

return {
  {
    Div = function(div)
      if not div.classes:includes("answer") then return nil end
      div.content:insert(1, pandoc.RawBlock("typst",
        '#block(width: 100%, inset: 10pt, radius: 3pt, fill: rgb("#e9eff5"), stroke: .6pt + rgb("#a3b9cc"))['))
      div.content:insert(pandoc.RawBlock("typst", "]"))
      return div.content
    end,
    Span = function(span)
      local colour = span.classes:includes("verdict") and colours[span.classes[2]]
      if not colour then return nil end
      local out = pandoc.Inlines({ pandoc.RawInline("typst",
        '#box(inset: (x: 4pt), outset: (y: 2.5pt), radius: 6pt, stroke: .5pt + rgb("' .. colour .. '"))[') })
      out:insert(pandoc.Strong(span.content))
      out:insert(pandoc.RawInline("typst", "]"))
      return out
    end,
  },
}
