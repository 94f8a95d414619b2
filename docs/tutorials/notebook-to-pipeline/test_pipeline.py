import pipeline


def test_the_held_out_rows_are_not_learnt_from():
    data = pipeline.load()
    train, test = pipeline.split(data)
    assert not set(train.index) & set(test.index)
    assert len(train) + len(test) == len(data) == 569


def test_the_label_is_no_input():
    train, _ = pipeline.split(pipeline.load())
    model = pipeline.fit(train, 0.5)
    assert pipeline.LABEL not in model.feature_names_in_
