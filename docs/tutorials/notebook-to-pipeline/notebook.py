# %% load
from sklearn.datasets import load_breast_cancer

data = load_breast_cancer(as_frame=True).frame
data["malignant"] = 1 - data.pop("target")
data.columns = [name.replace(" ", "_") for name in data.columns]

# %% look
print(data.shape, data["malignant"].mean())
data.to_csv("tumours.csv", index=False)

# %% split
test = data.sample(frac=0.25)
train = data.drop(test.index)

# %% train
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5))
model.fit(train.drop(columns="malignant"), train["malignant"])

# %% how good is it?
from sklearn.metrics import roc_auc_score

print(roc_auc_score(test["malignant"], model.predict_proba(test.drop(columns="malignant"))[:, 1]))
